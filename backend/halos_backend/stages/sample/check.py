"""`python -m halos_backend.stages.sample.check`: which engine a run would sample with."""

from __future__ import annotations

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.choice import EngineChoice
from halos_backend.stages.vllm.asked import answer


def choose(settings: RunSettings) -> EngineChoice:
    from halos_backend.stages.sample.choice import choose_engine  # after the threads are set

    return choose_engine(settings, settings.policy.path)


if __name__ == "__main__":
    answer(choose)

"""`python -m halos_backend.stages.label.check`: which engine a reward model would score with."""

from __future__ import annotations

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.choice import EngineChoice
from halos_backend.stages.vllm.asked import answer


def choose(settings: RunSettings) -> EngineChoice:
    from halos_backend.stages.label.choice import choose_engine  # after the threads are set

    return choose_engine(settings)


if __name__ == "__main__":
    answer(choose)

"""`python -m halos_backend.stages.sample.check`: which engine a run would sample with."""

from __future__ import annotations

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.stages.vllm.asked import answer


def choose(settings: RunSettings) -> EngineChoice:
    from halos_backend.stages.sample.choice import choose_engine  # after the threads are set
    from halos_backend.stages.sample.vllm_fleet import engine_environments

    choice = choose_engine(settings, settings.policy.path)
    # of GPUs that are named the settings know whether they suffice; this process sees others
    if choice.engine == "vllm" and settings.launch.devices is None:
        engine_environments(settings, num_threads=1)
    return choice


if __name__ == "__main__":
    answer(choose)

"""`python -m halos_backend.stages.label.check`: which engine a reward model would score with."""

from __future__ import annotations

from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.interpreters.device import device_of
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.stages.vllm.asked import answer


def choose(settings: RunSettings) -> EngineChoice:
    from halos_backend.stages.label.choice import choose_engine  # after the threads are set
    from halos_backend.stages.vllm.environment import check_devices, visible_devices

    judge, device = settings.label.judge, device_of(settings.launch)
    choice = choose_engine(settings)
    # of GPUs that are named the settings know whether they suffice; this process sees others
    if choice.engine == "vllm" and device != "cpu" and settings.launch.devices is None:
        assert isinstance(judge, RewardModelJudge)
        size, num_devices = judge.vllm.tensor_parallel_size, len(visible_devices(device))
        check_devices(1, size, num_devices, table="label.judge.vllm")
    return choice


if __name__ == "__main__":
    answer(choose)

"""What vLLM reads from the environment, and whether it compiles."""

from __future__ import annotations

import os

from halos_backend.config.vllm import EngineSettings
from halos_backend.interpreters.device import Device

NOT_IMPORTED = (AttributeError, ImportError, OSError, RuntimeError, TypeError, ValueError)
"""What importing vLLM raises beside packages, or on a machine, that it does not fit."""


def engine_environment(settings: EngineSettings, device: Device) -> dict[str, str]:
    """What vLLM reads from the environment; what a person has set there stays."""
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if device == "cpu" and settings.tensor_parallel_size == 1:
        # in one process: loads in a third of the time, and always batches the same way
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if is_eager(settings, device):
        wanted["TORCH_COMPILE_DISABLE"] = "1"  # vLLM compiles some functions all the same
    return {name: value for name, value in wanted.items() if name not in os.environ}


def is_eager(settings: EngineSettings, device: Device) -> bool:
    """Whether nothing is compiled: by default on a CPU, where it takes longer than most rounds."""
    given = settings.set_arguments.get("enforce_eager")
    return device == "cpu" if given is None else bool(given)


def prepare_process(settings: EngineSettings, device: Device) -> None:
    """Make this process one that vLLM can be imported into."""
    os.environ.update(engine_environment(settings, device))
    if is_eager(settings, device):
        import torch._dynamo.config

        torch._dynamo.config.disable = True  # its environment variable may be read already

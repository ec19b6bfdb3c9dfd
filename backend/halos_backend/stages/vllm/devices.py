"""The GPUs that engines of vLLM are spread over."""

from __future__ import annotations

import torch

from halos_backend.errors import UsageError
from halos_backend.interpreters.device import Device, shown_gpus


def visible_devices(device: Device) -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    if (shown := shown_gpus()) is not None:
        return list(shown)
    return [str(number) for number in range(torch.cuda.device_count())]


def check_devices(num_engines: int, size: int, num_devices: int, *, table: str) -> None:
    """Raises UsageError where there are fewer GPUs than engines of `size` of them need.

    `table` is that of their settings.
    """
    needed = num_engines * size
    if needed > num_devices:
        lower = "replicas or tensor_parallel_size" if num_engines > 1 else "tensor_parallel_size"
        raise UsageError(
            f"{table}: {num_engines} engines of {size} GPUs each need {needed}, and {num_devices}"
            f" are there: lower {lower}"
        )

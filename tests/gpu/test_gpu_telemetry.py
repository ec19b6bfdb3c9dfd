"""What is told of a real GPU."""

from __future__ import annotations

import pytest
import torch
from halos_backend.telemetry.gpu import Gpus
from halos_backend.telemetry.reading import GpuReading

pytestmark = pytest.mark.gpu
MIB = 1 << 20


def reading_of(gpus: Gpus, device: torch.device) -> GpuReading:
    """The reading of torch's device; torch counts the visible ones, NVML all."""
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return next(each for each in gpus.read() if each.uuid == uuid)


def test_a_gpu_is_told_as_torch_knows_it(gpu: torch.device) -> None:
    found = reading_of(Gpus(), gpu)
    properties = torch.cuda.get_device_properties(gpu)
    assert found.lost is None
    assert found.name == properties.name
    assert found.memory_total_bytes == pytest.approx(properties.total_memory, rel=0.05)
    assert found.utilization_frac is not None and 0 <= found.utilization_frac <= 1
    assert found.temperature_c is not None and 0 < found.temperature_c < 120


def test_memory_in_use_grows_by_what_is_taken(gpu: torch.device) -> None:
    gpus = Gpus()
    torch.zeros(1, device=gpu)  # the context takes some hundred MiB itself
    torch.cuda.empty_cache()
    before = reading_of(gpus, gpu).memory_used_bytes
    taken = torch.ones(256 * MIB, dtype=torch.uint8, device=gpu)
    torch.cuda.synchronize()
    during = reading_of(gpus, gpu).memory_used_bytes
    assert before is not None and during is not None
    assert during - before == pytest.approx(taken.nbytes, abs=64 * MIB)

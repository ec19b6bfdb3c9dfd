"""NVIDIA's management library with GPUs that can be lost, fall silent, or be added up by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

LOST, NOT_SUPPORTED, UNKNOWN, NOT_LOADED = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_UNKNOWN,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
)


@dataclass
class FakeGpu:
    """What one GPU answers. `error` is raised for every question; `refused` names questions."""

    uuid: str
    name: str = "Big GPU"
    utilization: int = 50
    used: int = 10
    total: int = 100
    power_mw: int = 300_000
    energy_mj: int = 0
    temperature: int = 61
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    error: int | None = None
    refused: dict[str, int] = field(default_factory=dict)


class FakeNvml:
    """Stands in for the module `pynvml`; the errors are the module's own."""

    NVMLError = pynvml.NVMLError
    NVMLLibraryMismatchError = pynvml.NVMLLibraryMismatchError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.num_inits = 0
        self.num_shutdowns = 0
        self.num_handles = 0
        self.broken: int | None = None

    def nvmlInit(self) -> None:
        self.num_inits += 1
        if self.broken is not None:
            raise pynvml.NVMLError(self.broken)

    def nvmlShutdown(self) -> None:
        self.num_shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self.num_handles += 1
        return self._ask(self.gpus[index], "handle")

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return self._ask(handle, "uuid").uuid

    def nvmlDeviceGetName(self, handle: FakeGpu) -> bytes:
        return self._ask(handle, "name").name.encode()

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> SimpleNamespace:
        gpu = self._ask(handle, "memory")
        return SimpleNamespace(used=gpu.used, free=gpu.total - gpu.used, total=gpu.total)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._ask(handle, "utilization").utilization)

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        return self._ask(handle, "power").power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        return self._ask(handle, "energy").energy_mj

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._ask(handle, "temperature").temperature

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu) -> list[Any]:
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=used)
            for pid, used in self._ask(handle, "processes").processes
        ]

    def _ask(self, gpu: FakeGpu, question: str) -> FakeGpu:
        if (error := gpu.error or gpu.refused.get(question)) is not None:
            raise pynvml.NVMLError(error)
        return gpu

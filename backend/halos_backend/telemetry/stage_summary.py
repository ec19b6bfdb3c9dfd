"""Adds up what a stage used while it ran: sums and peaks only, so that its size never grows.

GPU numbers are of the run's GPUs, whoever uses them besides; host numbers are of the whole machine.
The energy of a GPU between readings is by its counter, else by its power.
"""

from __future__ import annotations

from collections.abc import Sequence

from halos_backend.events.summaries import MeasuredUse
from halos_backend.telemetry.devices import select_gpus
from halos_backend.telemetry.reading import GpuReading, HostReading, Key, Reading


class _Mean:
    """Is a mean over time: each value stands for the seconds before it."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._elapsed_s = 0.0

    def add(self, value: float, elapsed_s: float) -> None:
        self._sum += value * elapsed_s
        self._elapsed_s += elapsed_s

    @property
    def value(self) -> float | None:
        return round(self._sum / self._elapsed_s, 4) if self._elapsed_s > 0 else None


class StageUse:
    """Adds up what one stage used so far. `at` is on the monotonic clock, in seconds."""

    def __init__(
        self, key: Key, *, devices: Sequence[int] | None = None, visible: str | None = None
    ) -> None:
        self._key = key
        self._devices = devices
        self._visible = visible
        self._at: float | None = None
        self._gpu_utilization = _Mean()
        self._cpu_utilization = _Mean()
        self._energy: dict[int, EnergyMeter] = {}
        self._gpu_peak_bytes: int | None = None
        self._gpu_own_peak_bytes: int | None = None
        self._host_peak_bytes: int | None = None

    def add(self, reading: Reading, *, at: float) -> None:
        """Takes a reading of while the stage ran. No mean has the first: it tells of the time
        before.
        """
        elapsed_s = 0.0 if self._at is None else at - self._at
        self._at = at
        self._add_host(reading.host, elapsed_s)
        for gpu in select_gpus(reading.gpus, self._devices, visible=self._visible):
            self._add_gpu(gpu, elapsed_s, at)

    def summary(self, *, at: float) -> dict[str, float | int]:
        """Makes the figures for `StageFinished.summary`, once; see `MeasuredUse`."""
        for meter in self._energy.values():
            meter.finish(at=at)
        joules = [meter.joules for meter in self._energy.values() if meter.joules is not None]
        return MeasuredUse(
            gpu_utilization_frac=self._gpu_utilization.value,
            cpu_utilization_frac=self._cpu_utilization.value,
            gpu_energy_j=round(sum(joules), 1) if joules else None,
            gpu_peak_memory_bytes=self._gpu_peak_bytes,
            gpu_own_peak_memory_bytes=self._gpu_own_peak_bytes,
            host_peak_memory_bytes=self._host_peak_bytes,
        ).as_json()

    def _add_host(self, host: HostReading, elapsed_s: float) -> None:
        if host.cpu_frac is not None:
            self._cpu_utilization.add(host.cpu_frac, elapsed_s)
        if host.memory_used_bytes is not None:
            self._host_peak_bytes = max(host.memory_used_bytes, self._host_peak_bytes or 0)

    def _add_gpu(self, gpu: GpuReading, elapsed_s: float, at: float) -> None:
        self._energy.setdefault(gpu.index, EnergyMeter()).add(gpu, at=at)
        if gpu.utilization_frac is not None:
            self._gpu_utilization.add(gpu.utilization_frac, elapsed_s)
        if gpu.memory_used_bytes is not None:
            self._gpu_peak_bytes = max(gpu.memory_used_bytes, self._gpu_peak_bytes or 0)
        own = [
            process.used_bytes
            for process in gpu.processes or ()
            if (process.round, process.stage) == self._key and process.used_bytes is not None
        ]
        if own:
            self._gpu_own_peak_bytes = max(sum(own), self._gpu_own_peak_bytes or 0)


class EnergyMeter:
    """Counts joules since the first reading; `joules` is None before anything was measured."""

    def __init__(self) -> None:
        self.joules: float | None = None
        self._counter_j: float | None = None
        self._power_w: float | None = None
        self._at = 0.0

    def add(self, gpu: GpuReading, *, at: float) -> None:
        """Takes a reading; `at` is on the monotonic clock, in seconds.

        While the GPU is lost nothing is added; a counter that goes on makes up for it.
        """
        if gpu.energy_j is not None and self._counter_j is not None:
            if gpu.energy_j >= self._counter_j:
                self._count(gpu.energy_j - self._counter_j)
        elif gpu.energy_j is None and gpu.power_w is not None and self._power_w is not None:
            self._count((self._power_w + gpu.power_w) / 2 * (at - self._at))
        self._counter_j = self._counter_j if gpu.energy_j is None else gpu.energy_j
        self._power_w = gpu.power_w
        self._at = at

    def finish(self, *, at: float) -> None:
        """Counts the time since the last reading at that reading's power."""
        if self._power_w is not None:
            self._count(self._power_w * (at - self._at))
        self._at = at

    def _count(self, joules: float) -> None:
        self.joules = (self.joules or 0.0) + joules

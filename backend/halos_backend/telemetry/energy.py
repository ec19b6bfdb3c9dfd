"""Adds up the energy of one GPU between readings: by its counter, else by its power."""

from __future__ import annotations

from halos_backend.telemetry.reading import GpuReading


class EnergyMeter:
    """Joules since the first reading; `joules` is None before anything was measured."""

    def __init__(self) -> None:
        self.joules: float | None = None
        self._counter_j: float | None = None
        self._power_w: float | None = None
        self._at = 0.0

    def add(self, gpu: GpuReading, *, at: float) -> None:
        """`at` is on the monotonic clock, in seconds.

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
        """Count the time since the last reading at that reading's power."""
        if self._power_w is not None:
            self._count(self._power_w * (at - self._at))
        self._at = at

    def _count(self, joules: float) -> None:
        self.joules = (self.joules or 0.0) + joules

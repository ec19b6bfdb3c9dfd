"""Whether a stage may start: its GPUs are the run's own, and their memory is free."""

from __future__ import annotations

import contextlib

from halos_backend.config.schema import LaunchSettings
from halos_backend.errors import HalosError
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.devices import Reservation, gpu_numbers
from halos_backend.supervisor.gate import MemoryGate, Programs
from halos_backend.telemetry.sampler import Sampler


class Admission:
    """Asked again and again before a stage starts, until there is no obstacle."""

    def __init__(self, run_dir: RunDir, sampler: Sampler, own: Programs) -> None:
        self._sampler = sampler
        self._reservation = Reservation(run_dir)
        self._gate = MemoryGate(sampler, own)

    def claim(self, launch: LaunchSettings) -> None:
        """Take the GPUs again at once for a stage that outlived its supervisor, if free."""
        with contextlib.suppress(HalosError):
            self._reservation.try_take(launch)

    def obstacle(self, launch: LaunchSettings) -> str | None:
        """None when the stage may start, `gate.UNKNOWN` for a moment, or what it waits for.

        A run that is at work waits for GPUs whatever `launch.when_devices_busy` says: that is for
        its start. Raises HalosError for what waiting cannot change.
        """
        if (busy := self._reservation.try_take(launch)) is not None:
            return str(busy)
        self._sampler.devices = gpu_numbers(launch)
        return self._gate.obstacle(launch)

    def release(self) -> None:
        """Let the GPUs go."""
        self._reservation.release()

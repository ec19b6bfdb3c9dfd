"""Whether a stage may start: the memory of its GPUs is free.

What an ended stage held is given back a moment after its last process is gone; a stage that starts
before runs out of memory. Programs of others are waited for too, but not for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from halos_backend import clock
from halos_backend.config.schema import LaunchSettings
from halos_backend.interpreters.device import has_nvidia_device
from halos_backend.supervisor.launch import device_names
from halos_backend.telemetry.devices import Holder, holders, select_gpus
from halos_backend.telemetry.reading import Reading

LOOK_AGAIN_S = 0.5
SILENT_DRIVER_S = 10.0
"""A driver that does not answer for this long is not waited for: the stage finds out itself."""
PATIENCE_S = 120.0
"""Holders that are still there after this stay: they are worked beside from then on."""

UNKNOWN = ""
"""Obstacle until the GPUs have been looked at."""


class Looks(Protocol):
    """Looks at the GPUs in a thread of its own."""

    latest: Reading | None

    def wake(self) -> None: ...


class MemoryGate:
    """Asked again and again before a stage starts, until there is no obstacle.

    `own` are the processes of the run's own workers, which are parked and hold little.
    """

    def __init__(
        self,
        looks: Looks,
        *,
        own: Callable[[], Collection[int]] = tuple,
        environment: Mapping[str, str] = os.environ,
        has_gpu: Callable[[], bool] = has_nvidia_device,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self._looks = looks
        self._own = own
        self._environment = environment
        self._has_gpu = has_gpu
        self._now = now
        self._tolerated: set[int | None] = set()
        self._since: float | None = None
        self._asked_t = 0.0

    def obstacle(self, launch: LaunchSettings) -> str | None:
        """None when the stage may start, UNKNOWN for a moment, or who holds the memory."""
        if launch.device == "cpu" or not self._has_gpu():
            return None
        found = self._look(launch)
        if found is None:
            self._since = None
        return found

    def _look(self, launch: LaunchSettings) -> str | None:
        now = self._now()
        if self._since is None:
            self._since = self._asked_t = now
            self._looks.wake()
        reading = self._looks.latest
        if reading is None or reading.t < self._asked_t:
            return None if now - self._asked_t > SILENT_DRIVER_S else UNKNOWN
        names = device_names(launch, self._environment)
        visible = ",".join(names) if names else self._environment.get("CUDA_VISIBLE_DEVICES")
        gpus = select_gpus(reading.gpus, None, visible=visible)
        tolerated = self._tolerated | set(self._own())
        held = [found for found in holders(gpus) if _pid(found) not in tolerated]
        if not held:
            return None
        if now - self._since > PATIENCE_S:
            self._tolerated.update(_pid(found) for found in held)
            return None
        if now - self._asked_t > LOOK_AGAIN_S:
            self._asked_t = now
            self._looks.wake()
        return f"GPU memory is held by {'; '.join(str(found) for found in held)}"


def _pid(holder: Holder) -> int | None:
    return None if holder.process is None else holder.process.pid

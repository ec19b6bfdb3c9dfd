"""Decides whether a stage may start: its GPUs are the run's own, and their memory is free.

What an ended stage held is given back a moment after its last process is gone; a stage that starts
before runs out of memory. Programs of others are waited for too, but not for ever. A parked worker
that holds more than it should is ended: an engine that sleeps keeps a little, and more of it from
round to round (vLLM's issue 36651: 0.4 to 5.2 GiB in a day); one that failed to give its memory
back keeps most of a GPU.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from halos_backend import clock
from halos_backend.config.schema import LaunchSettings
from halos_backend.errors import HalosError
from halos_backend.events import Stage
from halos_backend.interpreters.device import device_names, has_nvidia_device
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.gpus.reservation import Reservation, gpu_numbers
from halos_backend.telemetry.devices import Holder, holders, select_gpus
from halos_backend.telemetry.reading import GpuReading, Reading
from halos_backend.telemetry.sampler import Sampler

LOOK_AGAIN_S = 0.5
SILENT_DRIVER_S = 10.0
"""Is how long a driver that does not answer is waited for; after that the stage finds out
itself.
"""
PATIENCE_S = 120.0
"""Is how long other holders are waited for; after that the stage works beside them."""
PARKING_S = 5.0
"""Is how long a parked worker has to give its memory back; after that it is ended."""

UNKNOWN = ""
"""Is the obstacle until the GPUs have been read."""

ROOM_BYTES = 2 << 30
"""Is what a worker may hold beyond what it held when it was first parked."""
MOST_FRAC = 0.25
"""Is the share of a GPU that a worker may hold at most, however much it held at first."""

Worker = tuple[Stage, int, int]
"""Names a stage, the worker's first process, and a GPU."""


class Readings(Protocol):
    """Reads the GPUs in a thread of its own."""

    latest: Reading | None

    def wake(self) -> None: ...


class Programs(Protocol):
    """Holds the run's own processes: of stages that run, and of workers that are parked."""

    def running_pids(self) -> Collection[int]: ...

    def parked_pids(self) -> Mapping[Stage, Collection[int]]: ...

    def end_worker(self, stage: Stage, reason: str) -> None: ...


class MemoryGate:
    """Waits for memory: is asked again and again before a stage starts, until there is no
    obstacle.
    """

    def __init__(
        self,
        readings: Readings,
        own: Programs,
        *,
        environment: Mapping[str, str] = os.environ,
        has_gpu: Callable[[], bool] = has_nvidia_device,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self._readings = readings
        self._own = own
        self._environment = environment
        self._has_gpu = has_gpu
        self._now = now
        self._parked = ParkedMemory()
        self._tolerated: set[int | None] = set()
        self._since: float | None = None
        self._asked_t = 0.0

    def obstacle(self, launch: LaunchSettings) -> str | None:
        """Says what is in the way: None when the stage may start, UNKNOWN for a moment, or who
        holds the memory.
        """
        if launch.device == "cpu" or not self._has_gpu():
            return None
        found = self._look(launch)
        if found is None:
            self._since = None
        return found

    def _look(self, launch: LaunchSettings) -> str | None:
        now = self._now()
        if self._since is None:
            self._since = now
            self._ask(now)
        reading = self._readings.latest
        if reading is None or reading.t < self._asked_t:
            return None if now - self._asked_t > SILENT_DRIVER_S else UNKNOWN
        names = device_names(launch, self._environment)
        visible = ",".join(names) if names else self._environment.get("CUDA_VISIBLE_DEVICES")
        gpus = select_gpus(reading.gpus, None, visible=visible)
        found = self._parked_too_large(gpus, now - self._since) or self._held(
            gpus, now - self._since
        )
        if found and now - self._asked_t > LOOK_AGAIN_S:
            self._ask(now)
        return found

    def _parked_too_large(self, gpus: Sequence[GpuReading], waited_s: float) -> str | None:
        parked = self._own.parked_pids()
        for stage, held in self._parked.overdrawn(gpus, parked).items():
            gib = held / (1 << 30)
            if waited_s <= PARKING_S:
                return f"the parked {stage} worker holds {gib:.1f} GiB of a GPU"
            self._own.end_worker(stage, f"parked, it held {gib:.1f} GiB of a GPU")
        return None

    def _held(self, gpus: Sequence[GpuReading], waited_s: float) -> str | None:
        """Says what others hold.

        In a container the driver's pids are those of the host: then the run's own cannot be told
        from them.
        """
        parked = {pid for pids in self._own.parked_pids().values() for pid in pids}
        own = parked | set(self._own.running_pids())
        held = [
            found
            for found in holders(gpus)
            if _pid(found) not in self._tolerated | own and not (own and _is_invisible(found))
        ]
        if not held:
            return None
        if waited_s > PATIENCE_S:
            self._tolerated.update(_pid(found) for found in held)
            return None
        return f"GPU memory is held by {'; '.join(str(found) for found in held)}"

    def _ask(self, now: float) -> None:
        self._asked_t = now
        self._readings.wake()


def _is_invisible(holder: Holder) -> bool:
    return holder.process is None or holder.process.name is None


def _pid(holder: Holder) -> int | None:
    return None if holder.process is None else holder.process.pid


class Admission:
    """Waits for GPUs and memory: is asked again and again before a stage starts, until there is no
    obstacle.
    """

    def __init__(self, run_dir: RunDir, sampler: Sampler, own: Programs) -> None:
        self._sampler = sampler
        self._reservation = Reservation(run_dir)
        self._gate = MemoryGate(sampler, own)

    def claim(self, launch: LaunchSettings) -> None:
        """Takes the GPUs again at once for a stage that outlived its supervisor, if they
        are free.
        """
        with contextlib.suppress(HalosError):
            self._reservation.try_take(launch)

    def obstacle(self, launch: LaunchSettings) -> str | None:
        """Says what is in the way: None when the stage may start, UNKNOWN for a moment, or what it
        waits for.

        A run that is at work waits for GPUs whatever `launch.when_devices_busy` says: that is for
        its start. Raises HalosError for what waiting cannot change.
        """
        if (busy := self._reservation.try_take(launch)) is not None:
            return str(busy)
        self._sampler.devices = gpu_numbers(launch)
        return self._gate.obstacle(launch)

    def release(self) -> None:
        """Lets the GPUs go."""
        self._reservation.release()


class ParkedMemory:
    """Notes what the workers of one run held of each GPU when they were first seen parked."""

    def __init__(self) -> None:
        self._first_bytes: dict[Worker, int] = {}

    def overdrawn(
        self, gpus: Sequence[GpuReading], parked: Mapping[Stage, Collection[int]]
    ) -> dict[Stage, int]:
        """Returns the stages whose workers, of these pids, hold too much of a GPU, and how many
        bytes.
        """
        found: dict[Stage, int] = {}
        for stage, pids in parked.items():
            for gpu in gpus:
                held = sum(p.used_bytes or 0 for p in gpu.processes or () if p.pid in pids)
                if held and held > self._limit((stage, min(pids), gpu.index), held, gpu):
                    found[stage] = max(held, found.get(stage, 0))
        return found

    def _limit(self, worker: Worker, held: int, gpu: GpuReading) -> float:
        most = MOST_FRAC * gpu.memory_total_bytes if gpu.memory_total_bytes else math.inf
        if held <= most:
            self._first_bytes.setdefault(worker, held)
        return min(most, self._first_bytes.get(worker, 0) + ROOM_BYTES)

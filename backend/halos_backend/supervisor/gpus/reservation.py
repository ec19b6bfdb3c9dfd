"""Reserves a run's GPUs against other runs of this user on this host, for as long as it is at work.

A run takes all of its GPUs or none, and who waits is served in the order of arrival, by
a locked file each. A supervisor
holds them by open files, which its stages do not inherit; so they are free when it exits or is
killed, and its successor takes them again. `memory_gate` deals with what programs other than
halos-tui hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from halos_backend import clock
from halos_backend.config.schema import LaunchSettings
from halos_backend.interpreters.device import device_names
from halos_backend.records import BAD_JSON
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.gpus.locks import (
    DeviceLock,
    Holder,
    holds_now,
    read_holder,
    runtime_dir,
    take_device,
)
from halos_backend.telemetry.gpu import gpu_number

LOOK_AGAIN_S = 0.25


class Ticket(msgspec.Struct, frozen=True):
    """Names a run that waits, and what for."""

    run: str
    devices: tuple[str, ...]


class Queue:
    """Is one supervisor's place among those that wait; a killed one loses it."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._path: Path | None = None
        self._fd = -1
        self._devices: tuple[str, ...] = ()

    def join(self, devices: Sequence[str]) -> None:
        """Begins to wait for these GPUs; a place that this supervisor has for them stays."""
        if self._path is not None and self._devices == tuple(devices):
            return
        self.leave()
        # the clock of the whole host, which nobody sets back
        path = _folder() / f"{time.monotonic_ns():020d}-{os.getpid()}.json"
        unfinished = path.with_suffix(".new")
        self._fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(self._fd, msgspec.json.encode(Ticket(str(self._run), tuple(devices))))
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        unfinished.rename(path)  # nobody sees a ticket that is not locked yet
        self._path, self._devices = path, tuple(devices)

    def leave(self) -> None:
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
        self._path = None

    def ahead(self, devices: Collection[str]) -> tuple[Ticket, ...]:
        """Returns who has waited for one of these GPUs since earlier."""
        if not devices:
            return ()
        mine = None if self._path is None else self._path.name
        return tuple(
            ticket
            for name, ticket in _living_tickets()
            if (mine is None or name < mine) and not set(devices).isdisjoint(ticket.devices)
        )


def _folder() -> Path:
    folder = runtime_dir() / "queue"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _living_tickets() -> Iterator[tuple[str, Ticket]]:
    """Yields the tickets whose supervisor lives, and deletes the others."""
    for path in sorted(_folder().glob("*.json")):
        with contextlib.suppress(OSError, *BAD_JSON):
            if _is_abandoned(path):
                path.unlink()
            else:
                yield path.name, msgspec.json.decode(path.read_bytes(), type=Ticket)


def _is_abandoned(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@dataclass(frozen=True)
class Busy:
    """Names GPUs that another run has, or that another run waits for since earlier."""

    holders: tuple[tuple[str, Holder | None], ...] = ()
    ahead: tuple[Ticket, ...] = ()

    def __str__(self) -> str:
        if self.ahead:
            runs = ", ".join(dict.fromkeys(Path(ticket.run).name for ticket in self.ahead))
            return f"its GPUs are waited for by {runs} since earlier"
        return "; ".join(_who(device, holder) for device, holder in self.holders)


class Reservation:
    """Is what one supervisor holds or waits for."""

    def __init__(self, run_dir: RunDir, environment: Mapping[str, str] = os.environ) -> None:
        self._run = run_dir.path.resolve()
        self._environment = environment
        self._held: dict[str, DeviceLock] = {}
        self._queue = Queue(self._run)
        self._busy: Busy | None = None
        self._look_at = float("-inf")

    def try_take(self, launch: LaunchSettings) -> Busy | None:
        """Holds the GPUs of `launch`, and no others; returns None once that is so, else who is in
        the way.

        The caller asks again and again; this never waits. Raises UsageError for a GPU that is not
        there, HalosError where nothing can be locked.
        """
        wanted = reserved_devices(launch, self._environment)
        if set(wanted) == self._held.keys():
            self._queue.leave()
            return None
        if self._busy is not None and clock.monotonic() < self._look_at:
            return self._busy
        self._look_at = clock.monotonic() + LOOK_AGAIN_S
        self._drop(set(self._held) - set(wanted))
        self._busy = self._take(wanted)
        return self._busy

    def release(self) -> None:
        """Lets everything go: the run has ended, or waits for its owner."""
        self._queue.leave()
        self._drop(set(self._held))
        self._busy = None

    def _take(self, wanted: tuple[str, ...]) -> Busy | None:
        # files that still name this run were its own when its last supervisor was killed
        was_killed = all(
            (holder := read_holder(device)) and holder.run == str(self._run) for device in wanted
        )
        if not was_killed and (ahead := self._queue.ahead(wanted)):
            self._queue.join(wanted)
            return Busy(ahead=ahead)
        for device in wanted:
            if device in self._held:
                continue
            got = take_device(device, self._run)
            if not isinstance(got, DeviceLock):
                self._drop(set(self._held))  # who holds some and waits for others can wait for ever
                self._queue.join(wanted)
                return Busy(holders=((device, got),))
            self._held[device] = got
        self._queue.leave()
        return None

    def _drop(self, devices: set[str]) -> None:
        for device in devices:
            self._held.pop(device).release()


def reserved_devices(
    launch: LaunchSettings, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Returns names of the GPUs to reserve, sorted, the same for every run of the host."""
    return tuple(sorted(device_key(name) for name in device_names(launch, environment)))


def gpu_numbers(
    launch: LaunchSettings, environment: Mapping[str, str] = os.environ
) -> tuple[int, ...] | None:
    """Returns the driver's numbers of the run's GPUs, for telemetry; None where it takes what there
    is.
    """
    if launch.devices is None:
        return None
    keys = reserved_devices(launch, environment)
    return tuple(int(key.removeprefix("gpu-")) for key in keys if key.startswith("gpu-"))


def device_key(name: str) -> str:
    """Returns one name for a GPU, whether CUDA_VISIBLE_DEVICES has its number or its uuid.

    A uuid that the driver does not know (a part of a GPU, say) stays as it is.
    """
    if name.isdecimal():
        return f"gpu-{int(name)}"
    number = gpu_number(name)
    return name if number is None else f"gpu-{number}"


def find_busy(launch: LaunchSettings, environment: Mapping[str, str] = os.environ) -> Busy | None:
    """Says whether a run of these settings would have to wait now; takes nothing."""
    found = []
    for device in reserved_devices(launch, environment):
        holder = read_holder(device)
        if holder is not None and holds_now(holder):
            found.append((device, holder))
    return Busy(tuple(found)) if found else None


def _who(device: str, holder: Holder | None) -> str:
    name = device.replace("gpu-", "GPU ")
    if holder is None:
        return f"{name} is another run's"
    return f"{name} is held by the run {Path(holder.run).name} ({holder.run})"

"""Tells who waits for which GPUs, in the order of arrival: a locked file for each waiting
supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from halos_backend.records import BAD_JSON
from halos_backend.supervisor.gpus.locks import runtime_dir


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

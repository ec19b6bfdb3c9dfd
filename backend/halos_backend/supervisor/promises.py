"""Owns the promises of host memory to runs of one user that these have not taken yet.

What is free does not say what others are about to take: a hundred runs that start at once would
each find room for all of their programs. Each writes down what it will take until its first round
has shown it; the files lie beside those of the GPUs, see `gpus.locks`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from halos_backend import atomic
from halos_backend.errors import HalosError
from halos_backend.events import ProcessIdentity
from halos_backend.records import BAD_JSON
from halos_backend.store.identity import is_alive, own_identity
from halos_backend.supervisor.gpus.locks import runtime_dir


class Promise(msgspec.Struct, frozen=True):
    """Says what the run of this supervisor will take."""

    process: ProcessIdentity
    num_bytes: int


class Promises:
    """Holds the promises of all runs of the user, and the one of `run`. Where their folder cannot
    be used there are none.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    @contextlib.contextmanager
    def alone(self) -> Iterator[int]:
        """Yields the bytes promised to others, none of whom reads and promises meanwhile."""
        try:
            lock = (self._folder() / "lock").open("w")
        except (HalosError, OSError):
            yield 0
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._of_others()

    def make(self, num_bytes: int) -> None:
        promise = Promise(own_identity(), num_bytes)
        with contextlib.suppress(HalosError, OSError):
            atomic.write_bytes(self._own(), msgspec.json.encode(promise) + b"\n", durable=False)

    def keep(self) -> None:
        """Ends the promise: the memory has been taken, or will not be."""
        with contextlib.suppress(HalosError, OSError):
            self._own().unlink(missing_ok=True)

    def _of_others(self) -> int:
        """Adds up the promises of others; those of supervisors that are gone do not count, and are
        deleted.
        """
        total = 0
        for path in self._folder().glob("*.json"):
            promise = _read(path)
            if promise is None or not is_alive(promise.process):
                path.unlink(missing_ok=True)
            elif path != self._own():
                total += promise.num_bytes
        return total

    def _folder(self) -> Path:
        folder = runtime_dir() / "memory"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _own(self) -> Path:
        name = hashlib.sha256(str(self._run.resolve()).encode()).hexdigest()[:32]
        return self._folder() / f"{name}.json"


def _read(path: Path) -> Promise | None:
    with contextlib.suppress(OSError, *BAD_JSON):
        return msgspec.json.decode(path.read_bytes(), type=Promise)
    return None

"""Owns what proves that a run has one living supervisor: its lock, its heartbeat, the snapshot of
the fold.

The lock is held for the supervisor's whole life. Heartbeat and snapshot are for readers; no
recovery needs them, so both may be late, and a disk that refuses them is no failure.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

import msgspec

from halos_backend import atomic, clock
from halos_backend.errors import HalosError, RunInUseError
from halos_backend.store.identity import own_identity, recorded_holder
from halos_backend.store.registry import write_snapshot
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import RunState

HEARTBEAT_S = 1.0
SNAPSHOT_SHARE = 0.02
"""Is the share of the supervisor's time that goes into snapshots at most: a long run's takes tens
of ms.
"""


class Heartbeat:
    """Says that the supervisor lives, and how far the run is."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._beats = 0
        self._next_beat = float("-inf")
        self._next_snapshot = float("-inf")
        self._snapshot_offset = -1

    def beat(self, state: RunState, *, offset: int) -> None:
        """Writes a heartbeat, once a second at most. `state` is the fold of the journal's first
        `offset` bytes.
        """
        if clock.monotonic() >= self._next_snapshot:
            self.snapshot(state, offset=offset)
        if clock.monotonic() < self._next_beat:
            return
        self._next_beat = clock.monotonic() + HEARTBEAT_S
        self._beats += 1
        with contextlib.suppress(OSError):
            atomic.write_bytes(self._run_dir.heartbeat, f"{self._beats}\n".encode(), durable=False)

    def snapshot(self, state: RunState, *, offset: int) -> None:
        """Writes a snapshot now, unless nothing is new. Readers fold what a late snapshot lacks."""
        if offset == self._snapshot_offset:
            return
        begun = clock.monotonic()
        with contextlib.suppress(OSError):
            write_snapshot(self._run_dir, state, offset=offset)
            self._snapshot_offset = offset
        ended = clock.monotonic()
        self._next_snapshot = ended + max(HEARTBEAT_S, (ended - begun) / SNAPSHOT_SHARE)


def take_lock(run_dir: RunDir, *, timeout_s: float = 1.0) -> int:
    """Locks the run and writes this process into the lock file; returns the open descriptor.

    Raises RunInUseError with the holder's identity, HalosError where the file system cannot lock.
    """
    fd = os.open(run_dir.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = clock.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if clock.monotonic() > deadline:
                os.close(fd)
                raise RunInUseError(_who_holds(run_dir)) from None
            time.sleep(0.05)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise HalosError(
                    f"the file system of {run_dir.path} cannot lock files, so two supervisors"
                    " could ruin the run",
                    fix="choose another with --runs-dir",
                ) from error
            raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(own_identity()) + b"\n", 0)
    return fd


def _who_holds(run_dir: RunDir) -> str:
    holder = recorded_holder(run_dir)  # it may be on another host, where it cannot be checked
    who = f" by process {holder.pid} on {holder.host}" if holder else ""
    return f"the run {run_dir.name} is supervised already{who}; {command_for(run_dir, 'watch')}"

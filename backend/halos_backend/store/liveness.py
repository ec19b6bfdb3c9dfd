"""Judges from a run's files whether a supervisor lives, and whether its heart beats."""

from __future__ import annotations

import contextlib
import socket

from halos_backend import clock
from halos_backend.events import ProcessIdentity
from halos_backend.store.identity import is_alive, recorded_holder
from halos_backend.store.run_dir import RunDir

REMOTE_LIMIT_S = 90.0
"""Limits the age of a heartbeat that another host writes on a network file system: an older one
means a dead supervisor.
"""
STALL_LIMIT_S = 10.0
"""Limits the age of a heartbeat of this host: an older one means a stopped supervisor, or a disk
that hangs.
"""


def living_supervisor(run_dir: RunDir) -> ProcessIdentity | None:
    """Returns the supervisor that holds the run, here or on another host."""
    holder = recorded_holder(run_dir)
    if holder is None:
        return None
    if _is_here(holder):
        return holder if is_alive(holder) else None
    return holder if silence_s(run_dir) < REMOTE_LIMIT_S else None


def silence_s(run_dir: RunDir) -> float:
    """Counts seconds since the last heartbeat, or since the lock was taken if that is later.

    Infinite where neither file can be looked at.
    """
    beats = []
    for path in (run_dir.heartbeat, run_dir.lock):
        with contextlib.suppress(OSError):
            beats.append(path.stat().st_mtime)
    return max(0.0, clock.now() - max(beats)) if beats else float("inf")


def stalled_for_s(run_dir: RunDir, supervisor: ProcessIdentity) -> float | None:
    """Counts the seconds for which a living supervisor has been silent; None while its heartbeat is
    fresh.

    One of another host counts as dead, not as stalled, once it is silent for too long.
    """
    if not _is_here(supervisor):
        return None
    silent_s = silence_s(run_dir)
    return silent_s if silent_s > STALL_LIMIT_S else None


def describe_stall(run_dir: RunDir, supervisor: ProcessIdentity, silent_s: float) -> str:
    """Says what a stalled supervisor is, and what to do about it."""
    return (
        f"the supervisor of {run_dir.name} (process {supervisor.pid} on {supervisor.host}) is"
        f" stalled: no heartbeat for {silent_s:.0f} s. It was stopped (if so: kill -CONT"
        f" {supervisor.pid}), or its disk hangs; it is not replaced while it lives"
    )


def _is_here(identity: ProcessIdentity) -> bool:
    return identity.host == socket.gethostname()

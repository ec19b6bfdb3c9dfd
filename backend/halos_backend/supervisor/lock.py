"""The lock that makes a supervisor the only one of its run; held for its whole life."""

from __future__ import annotations

import errno
import fcntl
import os
import time

import msgspec

from halos_backend import clock
from halos_backend.errors import HalosError, RunInUseError
from halos_backend.store.identity import own_identity, recorded_holder
from halos_backend.store.run_dir import RunDir, command_for


def take_lock(run_dir: RunDir, *, timeout_s: float = 1.0) -> int:
    """Lock the run and write this process into the lock file; returns the open descriptor.

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
                    " could ruin the run; choose another with --runs-dir"
                ) from error
            raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, msgspec.json.encode(own_identity()) + b"\n", 0)
    return fd


def _who_holds(run_dir: RunDir) -> str:
    holder = recorded_holder(run_dir)  # it may be on another host, where it cannot be checked
    who = f" by process {holder.pid} on {holder.host}" if holder else ""
    return f"the run {run_dir.name} is supervised already{who}; {command_for(run_dir, 'watch')}"

"""Deletes runs that nothing works on any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from halos_backend import atomic
from halos_backend.errors import HalosError, RunInUseError, UsageError
from halos_backend.store.disk_use import DiskMeter
from halos_backend.store.liveness import living_supervisor
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.supervisor.gpus.locks import has_living_stages
from halos_backend.supervisor.heartbeat import take_lock

MARK = ".removed-"
"""Is part of the hidden name that a run has while it is being deleted; no list shows it."""


def check_unused(run_dir: RunDir) -> None:
    """Raises RunInUseError for a run with a living supervisor or stage."""
    if (holder := living_supervisor(run_dir)) is not None:
        raise RunInUseError(
            f"the run {run_dir.name} is supervised by process {holder.pid} on {holder.host}: stop"
            f" it first with {command_for(run_dir, 'abort')}"
        )
    if has_living_stages(run_dir.path):
        raise RunInUseError(
            f"a stage of the run {run_dir.name} still runs: {command_for(run_dir, 'resume')}"
            f" takes it up again, {command_for(run_dir, 'abort')} ends it"
        )


def remove_run(run_dir: RunDir) -> int:
    """Deletes the run; returns the bytes on disk that this frees.

    It loses its name first, so that one that is deleted by half is never taken for a run; the
    remains of such deletions go too. Raises RunInUseError, UsageError where it may not be deleted.
    """
    check_unused(run_dir)
    root = run_dir.path.parent
    hidden = root / f".{run_dir.name}{MARK}{os.getpid()}"
    try:
        lock = take_lock(run_dir)  # no supervisor can begin from here on
    except OSError as error:
        raise _not_deleted(run_dir.path, error) from error
    try:
        check_no_stages(run_dir)
        run_dir.path.rename(hidden)
        atomic.fsync_dir(root)
    except OSError as error:
        raise _not_deleted(run_dir.path, error) from error
    finally:
        os.close(lock)
    return sum(_delete(path) for path in sorted(root.glob(f".*{MARK}*")))


def check_no_stages(run_dir: RunDir) -> None:
    """Raises RunInUseError where one began since the run was looked at."""
    if has_living_stages(run_dir.path):
        raise RunInUseError(f"a stage of the run {run_dir.name} has just begun")


def _delete(path: Path) -> int:
    freed = DiskMeter().measure(path).total
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return _delete(path) if path.exists() else 0  # another rm deletes the same remains
    except OSError as error:
        raise HalosError(
            f"{path} cannot be deleted wholly: {error.strerror}; what is left is no run any more,"
            " and the next halos-tui rm tries again"
        ) from error
    return freed


def _not_deleted(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be deleted: {error.strerror}; nothing was changed")

"""Deletes runs that nothing works on any more."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from halos_backend import atomic
from halos_backend.errors import HalosError, RunInUseError, UsageError
from halos_backend.events import ForkOrigin
from halos_backend.records import BAD_JSON
from halos_backend.store.disk_use import DiskMeter, DiskUse
from halos_backend.store.liveness import living_supervisor
from halos_backend.store.own_words import read_own_marks
from halos_backend.store.registry import list_runs, load_state
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import RunState
from halos_backend.supervisor.gpus.locks import has_living_stages
from halos_backend.supervisor.heartbeat import take_lock

MARK = ".removed-"
"""Is part of the hidden name that a run has while it is being deleted; no list shows it."""


@dataclass(frozen=True)
class Lost:
    """Says what goes with a run. `state` is None where it cannot be read; `num_own_marks` counts
    the completions that a person has marked or noted; `forks` are the names of the runs beside it
    that began from it.
    """

    run_dir: RunDir
    state: RunState | None
    disk: DiskUse
    has_result: bool
    num_own_marks: int = 0
    forks: tuple[str, ...] = ()


class _Created(msgspec.Struct):
    forked_from: ForkOrigin | None = None


def what_is_lost(runs: Sequence[RunDir]) -> list[Lost]:
    """Looks at runs that are to be deleted; a file that two of them share counts once."""
    meter = DiskMeter()
    forks = {root: _forks_in(root) for root in {run_dir.path.parent for run_dir in runs}}
    return [
        Lost(
            run_dir,
            _state_of(run_dir),
            meter.measure(run_dir.path),
            run_dir.final.is_dir(),
            len(read_own_marks(run_dir).of),
            tuple(forks[run_dir.path.parent].get(run_dir.path, ())),
        )
        for run_dir in runs
    ]


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


def _state_of(run_dir: RunDir) -> RunState | None:
    try:
        return load_state(run_dir)
    except (HalosError, OSError):
        return None


def _forks_in(root: Path) -> dict[Path, list[str]]:
    """Returns the names of forks by the runs that they began from; the first event says so."""
    found: dict[Path, list[str]] = {}
    for run_dir in list_runs(root):
        with contextlib.suppress(OSError, *BAD_JSON), run_dir.events.open("rb") as journal:
            created = msgspec.json.decode(journal.readline(), type=_Created)
            if created.forked_from is not None:
                found.setdefault(Path(created.forked_from.path), []).append(run_dir.name)
    return found


def _delete(path: Path) -> int:
    freed = DiskMeter().measure(path).total
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return _delete(path) if path.exists() else 0  # another rm deletes the same remains
    except OSError as error:
        raise HalosError(
            f"{path} cannot be deleted wholly: {error.strerror}; what is left is no run any more,"
            " and goes with the next one that is deleted"
        ) from error
    return freed


def _not_deleted(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be deleted: {error.strerror}; nothing was changed")

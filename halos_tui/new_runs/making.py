"""Makes new runs after the doctor looked at them; the verbs and the app share it.

What fails leaves nothing behind."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError
from halos_backend.findings import InputsError
from halos_backend.store.run_dir import RunDir, free_name
from halos_backend.supervisor import spawn
from halos_backend.supervisor.devices import refuse_busy

from halos_tui.new_runs.checking import Tell, all_findings, refuse_problems


def make_run(
    settings: RunSettings, create: Callable[[], RunDir], *, root: Path, warn: Tell
) -> RunDir:
    """The run that `create` makes of these settings.

    Raises InputsError for what the checks refuse, RunInUseError where its GPUs are another run's.
    """
    refuse_busy(settings.launch)
    try:
        run_dir = create()
    except InputsError as error:
        refuse_problems(all_findings(settings, error.prepared, root), warn)
        raise
    try:
        refuse_problems(all_findings(settings, _read_prepared(run_dir), root), warn)
    except BaseException:
        shutil.rmtree(run_dir.path)  # nothing has run in it
        raise
    return run_dir


def start_made(run_dir: RunDir) -> None:
    """Start the supervisor of a run that was just made. Where none starts, the run is gone again.

    Raises HalosError with the supervisor's log.
    """
    try:
        spawn.start_supervisor(run_dir)
    except HalosError:
        shutil.rmtree(run_dir.path)
        raise


def default_name(settings: RunSettings, root: Path) -> str:
    """Loss and time; numbered where two runs start in one second."""
    return free_name(f"{settings.train.loss.kind}-{time.strftime('%m%d-%H%M%S')}", root)


def _read_prepared(run_dir: RunDir) -> dict[str, Any]:
    """What the check of the inputs found."""
    prepared: dict[str, Any] = msgspec.json.decode(run_dir.prepared.read_bytes())
    return prepared

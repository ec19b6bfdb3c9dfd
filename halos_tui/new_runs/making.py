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
from halos_backend.doctor import Finding, examine_settings
from halos_backend.errors import HalosError, UsageError
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor import spawn
from halos_backend.supervisor.devices import refuse_busy

from halos_tui.headless.findings import complaint

Report = Callable[[str, int, int], None]
"""Called with what is being done, and how much of it is: (phase, done, total)."""
Tell = Callable[[Finding], object]
"""Called with each of the doctor's warnings."""


def make_run(
    settings: RunSettings, create: Callable[[], RunDir], *, root: Path, warn: Tell
) -> RunDir:
    """The run that `create` makes of these settings.

    Raises UsageError for what the doctor refuses, RunInUseError where its GPUs are another run's.
    """
    refuse_busy(settings.launch)
    check_settings(settings, root, prepared=None, warn=warn)
    run_dir = create()
    try:
        check_settings(settings, root, prepared=read_prepared(run_dir), warn=warn)
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


def check_settings(
    settings: RunSettings, root: Path, *, prepared: dict[str, Any] | None, warn: Tell
) -> None:
    """Tell the doctor's warnings; raise UsageError with its problems.

    What needs no look at the inputs is found without `prepared` and not said again with it.
    """
    found = examine_settings(settings, prepared=prepared, runs_root=root)
    if prepared is not None:
        known = examine_settings(settings, prepared=None, runs_root=root)
        found = [finding for finding in found if finding not in known]
    for finding in found:
        if finding.level == "warning":
            warn(finding)
    if problems := [complaint(finding) for finding in found if finding.level == "problem"]:
        raise UsageError("\n".join(problems))


def default_name(settings: RunSettings, root: Path) -> str:
    """Loss and time; numbered where two runs start in one second."""
    return free_name(f"{settings.train.loss.kind}-{time.strftime('%m%d-%H%M%S')}", root)


def free_name(stem: str, root: Path) -> str:
    """`stem`, numbered where there is a run of that name."""
    taken = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    return next((free for free in taken if not (root / free).exists()), stem)


def prompts_reporter(report: Report) -> Callable[[int, int], None]:
    """What `spawn` calls while it prepares the prompts."""
    return lambda done, total: report("preparing prompts", done, total)


def read_prepared(run_dir: RunDir) -> dict[str, Any]:
    """What the check of the inputs found."""
    prepared: dict[str, Any] = msgspec.json.decode(run_dir.prepared.read_bytes())
    return prepared

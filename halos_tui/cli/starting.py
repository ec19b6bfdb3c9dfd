"""What `run` and `demo` share: from settings to a followed run, or to the plan of one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.config.schema import RunSettings
from halos_backend.doctor import examine_settings
from halos_backend.errors import ExitCode, UsageError
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor import spawn
from halos_backend.supervisor.devices import refuse_busy

from halos_tui.cli import following
from halos_tui.cli.opening import Look, open_app
from halos_tui.headless import notices
from halos_tui.headless.findings import complaint
from halos_tui.headless.interrupts import ends_tidily
from halos_tui.headless.progress import ProgressBar


def start(
    settings: RunSettings,
    config_text: str,
    *,
    root: Path,
    name: str | None,
    json: bool,
    detach: bool,
    pause_on_term: bool,
    look: Look | None = None,
) -> tuple[RunDir, ExitCode]:
    """Create the run and follow it to its end, in the app where a `look` is given. Raises
    UsageError for what the doctor refuses, RunInUseError where its GPUs are another run's.
    """

    def create(bar: ProgressBar) -> RunDir:
        return spawn.create_run(
            root,
            name or default_name(settings, root),
            config_text=config_text,
            settings=settings.model_dump(mode="json"),
            report=prompts_reporter(bar),
        )

    return start_new(
        settings,
        create,
        root=root,
        json=json,
        detach=detach,
        pause_on_term=pause_on_term,
        look=look,
    )


def start_new(
    settings: RunSettings,
    create: Callable[[ProgressBar], RunDir],
    *,
    root: Path,
    json: bool,
    detach: bool,
    pause_on_term: bool,
    look: Look | None = None,
) -> tuple[RunDir, ExitCode]:
    """Like `start`, for a run of these settings that `create` makes."""
    following.check_options(detach=detach, pause_on_term=pause_on_term)
    refuse_busy(settings.launch)
    check_settings(settings, root, prepared=None)
    with ends_tidily(), ProgressBar() as bar:
        run_dir = create(bar)
    try:
        check_settings(settings, root, prepared=read_prepared(run_dir))
    except UsageError:
        shutil.rmtree(run_dir.path)  # nothing has run in it
        raise
    if look is not None:
        spawn.start_supervisor(run_dir)
        return run_dir, open_app(root, look, run_dir)
    code = following.start_and_follow(
        run_dir, json=json, detach=detach, pause_on_term=pause_on_term
    )
    return run_dir, code


def check_settings(settings: RunSettings, root: Path, *, prepared: dict[str, Any] | None) -> None:
    """Show the doctor's warnings; raise UsageError with its problems.

    What needs no look at the inputs is found without `prepared` and not said again with it.
    """
    found = examine_settings(settings, prepared=prepared, runs_root=root)
    if prepared is not None:
        known = examine_settings(settings, prepared=None, runs_root=root)
        found = [finding for finding in found if finding not in known]
    for finding in found:
        if finding.level == "warning":
            notices.say(complaint(finding))
    if problems := [complaint(finding) for finding in found if finding.level == "problem"]:
        raise UsageError("\n".join(problems))


def default_name(settings: RunSettings, root: Path) -> str:
    """Loss and time; numbered where two runs start in one second."""
    name = f"{settings.train.loss.kind}-{time.strftime('%m%d-%H%M%S')}"
    taken = [name, *(f"{name}-{number}" for number in range(2, 100))]
    return next((free for free in taken if not (root / free).exists()), name)


def prompts_reporter(bar: ProgressBar) -> Callable[[int, int], None]:
    """What `spawn` calls while it prepares the prompts."""
    return lambda done, total: bar.update("preparing prompts", done, total)


def read_prepared(run_dir: RunDir) -> dict[str, Any]:
    """What the check of the inputs found."""
    prepared: dict[str, Any] = msgspec.json.decode(run_dir.prepared.read_bytes())
    return prepared

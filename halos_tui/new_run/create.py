"""Makes new runs, of settings or of an old run's round, once the doctor has looked at them.

The verbs and the app share it. What fails leaves nothing behind.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from halos_backend.client import fork, start
from halos_backend.client.fork import Origin, find_origin, fork_settings
from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError
from halos_backend.findings import InputsError
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.run_dir import RunDir, free_name

from halos_tui.new_run.checking import Report, Tell, all_findings, refuse_problems
from halos_tui.tracking.rounds import prompts_taken

LONGEST_STEM = 90
"""A run's name has at most 100 characters, and `-r12-2` comes behind."""


def make_run(
    settings: RunSettings, create: Callable[[], RunDir], *, root: Path, warn: Tell
) -> RunDir:
    """Returns the run that `create` makes of these settings.

    Raises InputsError for what the checks refuse, RunInUseError where its GPUs are another run's.
    """
    start.refuse_busy(settings.launch)
    try:
        run_dir = create()
    except InputsError as error:
        refuse_problems(all_findings(settings, error.prepared, root), warn)
        raise
    try:
        refuse_problems(all_findings(settings, start.read_prepared(run_dir), root), warn)
    except BaseException:
        shutil.rmtree(run_dir.path)  # nothing has run in it
        raise
    return run_dir


def start_made(run_dir: RunDir) -> None:
    """Starts the supervisor of a run that was just made. Where none starts, the run is deleted
    again.

    Raises HalosError with the supervisor's log.
    """
    try:
        start.start_supervisor(run_dir)
    except HalosError:
        shutil.rmtree(run_dir.path)
        raise


def default_name(settings: RunSettings, root: Path) -> str:
    """Names a run by loss and time; numbered where two runs start in one second."""
    return free_name(f"{settings.train.loss.kind}-{time.strftime('%m%d-%H%M%S')}", root)


@dataclass(frozen=True)
class ForkPlan:
    """Says where the new run begins, its settings, and which of them were asked for."""

    origin: Origin
    settings: RunSettings
    overrides: tuple[str, ...]


def plan_fork(run_dir: RunDir, round: int, overrides: Sequence[str]) -> ForkPlan:
    """Plans a fork. Raises UsageError for a round without a checkpoint, SettingsError for
    overrides.
    """
    state = check_readable(load_state(run_dir), run_dir)
    origin = find_origin(run_dir, state, round)
    settings = fork_settings(origin.settings, overrides, directory=Path.cwd())
    return ForkPlan(origin, settings, tuple(overrides))


def create_fork(plan: ForkPlan, *, root: Path, name: str | None, report: Report) -> RunDir:
    """Makes the run, without a supervisor. Nothing is left behind on failure."""
    return fork.create_fork(
        root,
        name or default_fork_name(plan.origin.run_dir, plan.origin.round.round, root),
        plan.origin,
        plan.settings,
        config_text=_config_text(plan),
        report=report,
    )


def describe_fork(made: RunDir, plan: ForkPlan) -> str:
    """Says where the new run begins, and what it took along."""
    state, origin = load_state(made), plan.origin
    carried = "with" if state.forked_from and state.forked_from.train else "without"
    return (
        f"{made.name} begins after round {origin.round.round} of {origin.state.run}, behind"
        f" {prompts_taken(state.first_cursor, state.num_prompts)}, {carried} its"
        " trainer state"
    )


def default_fork_name(run_dir: RunDir, round: int, root: Path) -> str:
    """Returns `NAME-r3`, numbered where there is one."""
    return free_name(f"{run_dir.name[:LONGEST_STEM]}-r{round}", root)


def _config_text(plan: ForkPlan) -> str:
    """Returns the old run's file below what came of it; config.resolved.json is what holds."""
    origin = plan.origin
    with_set = "".join(f" --set {text!r}" for text in plan.overrides)
    head = f"# forked: halos-tui fork {origin.run_dir.name} --round {origin.round.round}{with_set}"
    return f"{head}\n{origin.run_dir.config.read_text(encoding='utf-8')}"

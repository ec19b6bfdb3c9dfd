"""`resume`: go on with a run that stopped."""

from __future__ import annotations

from halos_backend.errors import RunInUseError, UsageError
from halos_backend.store.registry import check_readable
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.store.state import ENDED

from halos_tui.cli import following
from halos_tui.cli.options import Detach, FollowJson, NoUi, RunName, RunsDir, runs_root
from halos_tui.headless.notices import command_for
from halos_tui.observed import observe


def command(
    run: RunName,
    no_ui: NoUi = False,  # noqa: ARG001
    json: FollowJson = False,
    detach: Detach = False,
    runs_dir: RunsDir = None,
) -> int:
    """Go on with a paused, failed or lost run.

    It goes on at the stage where it stopped, and is followed as by `run`.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    _check_resumable(run_dir)
    return following.start_and_follow(run_dir, json=json, detach=detach, is_new=False)


def _check_resumable(run_dir: RunDir) -> None:
    """Raises UsageError for a run that has ended, RunInUseError for one that runs."""
    seen = observe(run_dir)
    check_readable(seen.state, run_dir)
    if seen.supervisor is not None:
        raise RunInUseError(
            f"the run {run_dir.name} is running, under process {seen.supervisor.pid} on"
            f" {seen.supervisor.host}; to look at it: {command_for(run_dir, 'watch')}"
        )
    if seen.state.status in ENDED:
        raise UsageError(
            f"the run {run_dir.name} is {seen.state.status} ({seen.state.reason}); there is nothing"
            " to go on with. A new run: halos-tui run"
            f" {run_dir.config}"
        )

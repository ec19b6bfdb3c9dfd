"""`abort`: stop a run for good."""

from __future__ import annotations

import time

from halos_backend import clock
from halos_backend.errors import ExitCode, HalosError, UsageError
from halos_backend.store.registry import check_readable
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.store.state import ENDED
from halos_backend.supervisor import control, spawn

from halos_tui.cli.options import RunName, RunsDir, runs_root
from halos_tui.headless import notices
from halos_tui.observed import observe

TIMEOUT_S = 60.0
"""Longer than the grace that a stage gets, and the time to kill it after that."""
POLL_S = 0.05


def command(run: RunName, runs_dir: RunsDir = None) -> int:
    """Stop a run for good (exit code 3).

    The checkpoint of its last finished round stays the result.
    """
    run_dir = find_run(runs_root(runs_dir), run)
    seen = observe(run_dir)
    check_readable(seen.state, run_dir)
    if seen.state.status in ENDED:
        raise UsageError(f"the run {run_dir.name} is {seen.state.status} already")
    if seen.state.status != "aborting":
        control.send(run_dir, control.Abort(request_id=control.new_request_id()))
    if seen.supervisor is None:
        spawn.start_supervisor(run_dir)  # it answers requests before it starts anything
    return _wait_until_ended(run_dir)


def _wait_until_ended(run_dir: RunDir) -> ExitCode:
    """Raises HalosError when it takes too long."""
    deadline = clock.monotonic() + TIMEOUT_S
    while clock.monotonic() < deadline:
        seen = observe(run_dir)
        if seen.state.status in ENDED:
            notices.say_end(run_dir, seen.state)
            return seen.state.exit_code
        if seen.status == "lost":
            notices.say_lost(run_dir)
            return ExitCode.UNFINISHED
        time.sleep(POLL_S)
    raise HalosError(
        f"the run {run_dir.name} is still stopping after {TIMEOUT_S:.0f} s;"
        f" {notices.command_for(run_dir, 'watch')}"
    )

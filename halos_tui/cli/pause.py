"""This verb is `pause`: it stops a run at the next boundary, so that it can be resumed."""

from __future__ import annotations

from typing import Annotated

import typer
from halos_backend.errors import ExitCode
from halos_backend.store.registry import load_state
from halos_backend.store.requests import At
from halos_backend.store.run_dir import RunDir

from halos_tui.cli import asking
from halos_tui.cli.options import RunName, RunsDir, runs_root
from halos_tui.commands import command_for
from halos_tui.control import requests
from halos_tui.headless import notices
from halos_tui.tracking import rounds


def command(
    run: RunName,
    at: Annotated[
        At,
        typer.Option(help="When the round is done, or already when the running stage is."),
    ] = "round",
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when the run is paused (exit code 6).")
    ] = False,
    runs_dir: RunsDir = None,
) -> int:
    """Stop a run at the end of its round; `resume` goes on.

    Nothing is lost, and the GPUs are let go. Returns once the supervisor knows (exit code 0).
    """
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    asking.ask_seen(run_dir, seen, requests.pause_request(run_dir, seen, at))
    _say_where(run_dir)
    return asking.wait_until_stopped(run_dir) if wait else ExitCode.COMPLETED


def _say_where(run_dir: RunDir) -> None:
    state = load_state(run_dir)
    resume = command_for(run_dir, "resume")
    if where := rounds.boundary(state):
        notices.say(f"pausing {where}; go on after that, or at once, with: {resume}")
    elif state.status == "paused":
        notices.say_end(run_dir, state)

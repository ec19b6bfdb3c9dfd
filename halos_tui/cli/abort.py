"""This verb is `abort`: it stops a run for good."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from halos_backend.errors import ExitCode, RunInUseError
from halos_backend.events import AbortRequested
from halos_backend.store.registry import load_state
from halos_backend.store.requests import When
from halos_backend.store.run_dir import RunDir

from halos_tui.cli import asking
from halos_tui.cli.options import RunName, RunsDir, Yes, runs_root
from halos_tui.commands import command_for
from halos_tui.control import requests
from halos_tui.control.stopping import stays, stops
from halos_tui.headless import notices
from halos_tui.headless.interrupts import agrees
from halos_tui.tracking import rounds
from halos_tui.tracking.status import Observation

TIMEOUT_S = 60.0
"""This is longer than the grace that a stage gets, and the time to kill it after that."""


def command(
    run: RunName,
    when: Annotated[
        When, typer.Option(help="At once, or when the running stage or round is done.")
    ] = "now",
    yes: Yes = False,
    runs_dir: RunsDir = None,
) -> int:
    """Stop a run for good (exit code 3).

    The checkpoint of its last finished round stays the result. On a terminal it asks first. A stop
    that is to come later is only requested (exit code 0).
    """
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    request = requests.abort_request(run_dir, seen, when)
    if not yes and not _is_meant(run_dir, seen):
        notices.say(f"{run_dir.name} was left as it is")
        return ExitCode.COMPLETED
    if request is not None:
        event = asking.ask_seen(run_dir, seen, request)
        if isinstance(event, AbortRequested):
            when = event.when
    elif seen.status == "lost":
        with contextlib.suppress(RunInUseError):  # somebody else was faster
            asking.take_up(run_dir, seen)
    if when == "now":
        return asking.wait_until_stopped(run_dir, timeout_s=TIMEOUT_S)
    return _say_when(run_dir)


def _is_meant(run_dir: RunDir, seen: Observation) -> bool:
    """Says whether the person means it. Raises UsageError where nobody can be asked."""
    return agrees(
        f"{stops(seen)}\n{stays(run_dir, seen)}\nabort {run_dir.name} for good?",
        without=f"aborting a run for good needs --yes; to go on later instead:"
        f" {command_for(run_dir, 'pause')}",
    )


def _say_when(run_dir: RunDir) -> ExitCode:
    state = load_state(run_dir)
    if where := rounds.boundary(state):
        notices.say(f"aborting {where}; sooner: {command_for(run_dir, 'abort')}")
    else:
        notices.say_end(run_dir, state)
    return ExitCode.COMPLETED

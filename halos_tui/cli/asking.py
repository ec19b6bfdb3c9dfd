"""Owns what the verbs share that ask a supervisor for something."""

from __future__ import annotations

import time
from pathlib import Path

from halos_backend import clock
from halos_backend.client import ask
from halos_backend.errors import ExitCode, HalosError
from halos_backend.events import RunEvent
from halos_backend.store.requests import Request
from halos_backend.store.run_dir import RunDir, find_run
from halos_backend.store.state import AT_WORK

from halos_tui.commands import command_for
from halos_tui.control import requests
from halos_tui.headless import notices
from halos_tui.tracking.status import Observation, observe

POLL_S = 0.05
LOST_AFTER_S = 5.0
"""Its guardian has this long to take up a run that somebody waits for."""


def look_at(root: Path, run: str) -> tuple[RunDir, Observation]:
    """Returns the run of that name and how it stands. Raises HalosError for what cannot be read."""
    run_dir = find_run(root, run)
    return run_dir, requests.look(run_dir)


def ask_seen(run_dir: RunDir, seen: Observation, request: Request) -> RunEvent:
    """Returns the answer as `requests.ask` does; says first where nobody supervises the run."""
    if seen.status == "lost":
        ask.check_writable(run_dir)
        notices.say_taken_up(run_dir)
    return requests.ask(run_dir, request)


def take_up(run_dir: RunDir, seen: Observation) -> None:
    """Starts a supervisor on a run that has none and then goes on by itself."""
    if seen.status == "lost":
        ask.check_writable(run_dir)
        notices.say_taken_up(run_dir)
    requests.take_up(run_dir)


def wait_until_stopped(run_dir: RunDir, *, timeout_s: float = float("inf")) -> ExitCode:
    """Waits until nothing more will happen, says how the run stands, and exits by it.

    Raises HalosError when it takes too long.
    """
    begun = clock.monotonic()
    supervised_at = begun
    while (now := clock.monotonic()) - begun < timeout_s:
        seen = observe(run_dir)
        if seen.state.status not in AT_WORK:
            notices.say_end(run_dir, seen.state)
            return seen.state.exit_code
        if seen.status != "lost":
            supervised_at = now
        elif now - supervised_at > LOST_AFTER_S:
            notices.say_lost(run_dir)
            return ExitCode.UNFINISHED
        time.sleep(POLL_S)
    raise HalosError(
        f"the run {run_dir.name} is still stopping after {timeout_s:.0f} s;"
        f" {command_for(run_dir, 'watch')}"
    )

"""This verb is `resume`: it goes on with a run that stopped, or with all that lost their
supervisor, as after a reboot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from halos_backend.client import ask, start
from halos_backend.errors import ExitCode, HalosError, RunInUseError, UsageError
from halos_backend.store.registry import check_readable, list_runs
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import ENDED

from halos_tui.cli import asking, completing
from halos_tui.cli.options import Detach, FollowJson, NoUi, PauseOnTerm, RunsDir, runs_root
from halos_tui.control import requests
from halos_tui.formatting import visible
from halos_tui.headless import notices
from halos_tui.tracking.status import observe


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Name or directory of a run.", autocompletion=completing.runs
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every run that lost its supervisor, as after a reboot; follows none. Paused and"
            " failed ones are left alone.",
        ),
    ] = False,
    no_ui: NoUi = False,  # noqa: ARG001
    json: FollowJson = False,
    detach: Detach = False,
    pause_on_term: PauseOnTerm = False,
    runs_dir: RunsDir = None,
) -> int:
    """Go on with a paused, failed or lost run.

    It goes on at the stage where it stopped, and is followed as by `run`.
    """
    from halos_tui.cli import following  # pydantic: 0.1 s

    if every:
        if run is not None:
            raise UsageError("name a run, or write --all: not both")
        return resume_all(runs_root(runs_dir), json=json)
    if run is None:
        raise UsageError("name a run, or write --all for every run that lost its supervisor")
    run_dir, seen = asking.look_at(runs_root(runs_dir), run)
    request = requests.resume_request(run_dir, seen)
    begin: Callable[[], object]
    if request is not None:
        begin = partial(asking.ask_seen, run_dir, seen, request)
    else:
        begin = partial(asking.take_up, run_dir, seen)
    return following.follow_from(
        begin, run_dir, json=json, detach=detach, pause_on_term=pause_on_term
    )


class Outcome(msgspec.Struct, frozen=True):
    """Says what became of one run; `why` says why it was left alone or could not go on."""

    name: str
    outcome: Literal["resumed", "left alone", "could not go on"]
    why: str = ""


def resume_all(root: Path, *, json: bool) -> ExitCode:
    """Starts a supervisor for every lost run under `root`, and prints a line for each unended run.

    One that cannot go on stops none of the others, and makes the exit code 1.
    """
    outcomes = []
    for run_dir in sorted(list_runs(root), key=lambda run_dir: run_dir.name):
        if (outcome := _resume(run_dir)) is None:
            continue
        outcomes.append(outcome)
        line = msgspec.json.encode(outcome).decode() if json else _line(outcome)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if not outcomes:
        notices.say(f"no unfinished runs in {root}")
    failed = any(outcome.outcome == "could not go on" for outcome in outcomes)
    return ExitCode.FAILED if failed else ExitCode.COMPLETED


def _resume(run_dir: RunDir) -> Outcome | None:
    """Takes up one run; returns None for a run that has ended."""
    name = run_dir.name
    try:
        seen = observe(run_dir)
        check_readable(seen.state, run_dir)
        if seen.state.status in ENDED:
            return None
        if seen.status != "lost":
            reason = f" ({seen.state.reason})" if seen.state.reason else ""
            return Outcome(name, "left alone", f"it is {seen.status}{reason}")
        ask.check_writable(run_dir)
        start.start_supervisor(run_dir)
    except RunInUseError:
        return Outcome(name, "resumed", "by somebody else")
    except (HalosError, OSError) as error:
        return Outcome(name, "could not go on", str(error))
    return Outcome(name, "resumed")


def _line(outcome: Outcome) -> str:
    why = f": {outcome.why}" if outcome.why else ""
    return visible(f"{outcome.name} {outcome.outcome}{why}")

"""Does `resume --all`: it goes on with every run that lost its supervisor, as after a reboot."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import msgspec
from halos_backend.client import ask, start
from halos_backend.errors import ExitCode, HalosError, RunInUseError
from halos_backend.store.registry import check_readable, list_runs
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import ENDED

from halos_tui.formatting import visible
from halos_tui.headless import notices
from halos_tui.tracking.status import observe


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

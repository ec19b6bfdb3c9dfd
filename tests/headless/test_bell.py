"""The bell of a terminal that follows a run: rung for what happens now, where it is wanted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from halos_backend.events import GuardTripped, RunFailed, RunPaused, RunResumed

from tests.support.command_line import SUPPORT
from tests.support.made_run import MadeRun
from tests.support.pty_output import Terminal

DRIVER = SUPPORT / "drive_follow.py"
BELL = b"\x07"
GUARD = GuardTripped(
    t=3.0,
    guard="kl",
    round=1,
    stage="train",
    metric="kl_initial",
    value=12.0,
    reason="kl_initial is 12, above 10 (guard kl)",
    action="warn",
)


def belled(runs: Path, *, bell: bool = True, on: tuple[str, ...] = ("guard", "paused")) -> MadeRun:
    """A supervised run whose past has a guard, a failure and a pause."""
    run = MadeRun(runs)
    run.settings["notify"] |= {"bell": bell, "on": on}
    run.supervised()
    run.start_round(1)
    run.say(
        GUARD,
        RunFailed(t=1.0, reason="long past"),
        RunPaused(t=2.0, reason="long past"),
        RunResumed(t=2.5),
    )
    return run


def followed(run: MadeRun, environment: dict[str, str]) -> Terminal:
    terminal = Terminal([sys.executable, str(DRIVER), str(run.dir.path)], env=environment)
    terminal.wait_for("a-run  running")
    return terminal


def test_it_rings_for_what_happens_now_and_not_for_the_past(
    runs: Path, environment: dict[str, str]
) -> None:
    run = belled(runs)
    with followed(run, environment) as terminal:
        assert BELL not in terminal.output
        run.say(GUARD, RunPaused(t=4.0, reason="kl_initial is 12"))
        run.unsupervised()
        assert terminal.exit_code() == 6
        assert terminal.output.count(BELL) == 1


@pytest.mark.parametrize(("bell", "on"), [(False, ("guard", "paused")), (True, ("completed",))])
def test_it_is_silent_where_it_is_off_or_for_something_else(
    runs: Path, environment: dict[str, str], bell: bool, on: tuple[str, ...]
) -> None:
    run = belled(runs, bell=bell, on=on)
    with followed(run, environment) as terminal:
        run.say(GUARD, RunPaused(t=4.0, reason="kl_initial is 12"))
        run.unsupervised()
        assert terminal.exit_code() == 6
        assert BELL not in terminal.output

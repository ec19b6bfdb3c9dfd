"""Starts a supervisor, follows the run and exits by its state, for the verbs that follow a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

from halos_backend.client import start
from halos_backend.errors import ExitCode, UsageError
from halos_backend.store.run_dir import RunDir

from halos_tui.commands import command_for
from halos_tui.headless import notices
from halos_tui.headless.follow import Follower, Output
from halos_tui.headless.interrupts import Signals, somebody_can_answer
from halos_tui.tracking.run_tail import RunTail

OWNER_FOOTER = "Ctrl-C: detach, stop or abort. The run outlives this terminal."
WATCHER_FOOTER = "Ctrl-C leaves; the run goes on."


def check_options(*, detach: bool, pause_on_term: bool) -> None:
    """Raises UsageError for options that contradict each other."""
    if detach and pause_on_term:
        raise UsageError("--pause-on-term is for one who follows: leave it out with --detach")


def start_and_follow(
    run_dir: RunDir, *, json: bool, detach: bool, pause_on_term: bool = False
) -> ExitCode:
    """Starts a new run's supervisor and follows the run from its first event on."""
    begin = partial(start.start_supervisor, run_dir)
    tail = RunTail(run_dir)
    return _begin_and_follow(begin, tail, json=json, detach=detach, pause_on_term=pause_on_term)


def follow_from(
    begin: Callable[[], object],
    run_dir: RunDir,
    *,
    json: bool,
    detach: bool,
    pause_on_term: bool = False,
) -> ExitCode:
    """Makes an old run go on by `begin`, and follows what happens from now on."""
    check_options(detach=detach, pause_on_term=pause_on_term)
    tail = RunTail(run_dir, history=False)
    tail.read()
    return _begin_and_follow(begin, tail, json=json, detach=detach, pause_on_term=pause_on_term)


def _begin_and_follow(
    begin: Callable[[], object], tail: RunTail, *, json: bool, detach: bool, pause_on_term: bool
) -> ExitCode:
    run_dir = tail.run_dir
    with Signals() as signals:  # before the start: a Ctrl-C must not end us in between
        begin()
        if detach:
            notices.say(f"run {run_dir.name} goes on by itself")
            notices.say(command_for(run_dir, "watch"))
            return ExitCode.COMPLETED
        asks = somebody_can_answer() and not json
        output = make_output(json=json, footer=OWNER_FOOTER)
        return Follower(
            tail, output, signals, owns=True, asks=asks, pauses_on_term=pause_on_term
        ).follow()


def watch(run_dir: RunDir, *, json: bool) -> ExitCode:
    """Follows a run that this program does not steer."""
    with Signals() as signals:
        output = make_output(json=json, footer=WATCHER_FOOTER)
        return Follower(RunTail(run_dir), output, signals, owns=False, asks=False).follow()


def make_output(*, json: bool, footer: str) -> Output:
    """Returns JSON lines if asked for, the live view on a terminal that can show it, else plain
    lines.
    """
    if json:
        from halos_tui.headless.follow import JsonLines

        return JsonLines()
    if sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
        from halos_tui.headless.live_view import LiveView  # rich: 0.1 s that lines do without

        return LiveView(footer=footer)
    from halos_tui.headless.lines import Lines

    return Lines()

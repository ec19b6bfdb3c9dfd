"""What `run`, `demo`, `resume` and `watch` share: start a supervisor, follow, exit by the state."""

from __future__ import annotations

import os
import sys

from halos_backend.errors import ExitCode
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor import spawn

from halos_tui.headless import notices
from halos_tui.headless.follow import Follower, Output
from halos_tui.headless.interrupts import Signals, somebody_can_answer
from halos_tui.tailing import RunTail

OWNER_FOOTER = "Ctrl-C: abort, stop or detach. The run outlives this terminal."
WATCHER_FOOTER = "Ctrl-C leaves; the run goes on."


def start_and_follow(run_dir: RunDir, *, json: bool, detach: bool, is_new: bool) -> ExitCode:
    """Start the run's supervisor and follow it; of an old run only what happens from now on."""
    tail = RunTail(run_dir, history=is_new)
    if not is_new:
        tail.read()
    with Signals() as signals:  # before the start: a Ctrl-C must not end us in between
        spawn.start_supervisor(run_dir)
        if detach:
            notices.say(f"run {run_dir.name} goes on by itself")
            notices.say(notices.command_for(run_dir, "watch"))
            return ExitCode.UNFINISHED
        asks = somebody_can_answer() and not json
        output = make_output(json=json, footer=OWNER_FOOTER)
        return Follower(tail, output, signals, owns=True, asks=asks).follow()


def watch(run_dir: RunDir, *, json: bool) -> ExitCode:
    """Follow a run without any say in it."""
    with Signals() as signals:
        output = make_output(json=json, footer=WATCHER_FOOTER)
        return Follower(RunTail(run_dir), output, signals, owns=False, asks=False).follow()


def make_output(*, json: bool, footer: str) -> Output:
    """JSON lines if asked for, the live view on a terminal that can show it, else plain lines."""
    if json:
        from halos_tui.headless.json_lines import JsonLines

        return JsonLines()
    if sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb"):
        from halos_tui.headless.live_view import LiveView  # rich: 0.1 s that lines do without

        return LiveView(footer=footer)
    from halos_tui.headless.lines import Lines

    return Lines()

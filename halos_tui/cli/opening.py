"""Opens the app where a terminal can show it, and says afterwards how a run stands.

It also sets the garbage collection, so that it makes nobody wait. Python looks through everything
that lives again and again, and no other code runs meanwhile: 0.15 s at a time for the app while a
run says much. What is loaded at the start lives as long as the app does, so it is not looked at any
more; the rest is looked at less often.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from halos_backend.client import start
from halos_backend.errors import ExitCode, UsageError
from halos_backend.store.run_dir import RunDir

from halos_tui.app_options import AppOptions
from halos_tui.headless import notices
from halos_tui.headless.interrupts import Signals
from halos_tui.tracking.status import observe

if TYPE_CHECKING:
    from halos_tui.app import HalosApp

SWITCH_S = 0.001
"""A thread that reads a run may keep a key press waiting for so long, instead of Python's 0.005."""
STALE = ("COLUMNS", "LINES")
"""A shell exported these once; Textual would believe them over the terminal, whatever its size."""

NUM_YOUNG = 20_000
"""So many more objects than before are made until the newest are looked through."""


def can_show_app() -> bool:
    """Says whether input, output and messages are one terminal that takes more than plain lines."""
    return not _obstacle()


def check_theme(options: AppOptions) -> None:
    """Raises UsageError for a theme that does not exist."""
    if options.theme is not None:
        from halos_tui.theme import find_theme  # rich: 0.05 s that only the app needs

        find_theme(options.theme)


def open_app(options: AppOptions, *, run_dir: RunDir | None = None) -> None:
    """Shows the list of runs, or one run, and returns when the person leaves.

    Raises UsageError where no terminal can show it, or for an unknown theme, and the error that
    ended the app, in whichever thread it was raised.
    """
    if not can_show_app():
        raise UsageError(
            f"the app needs a terminal, and {_obstacle()}; what works without one: halos-tui list,"
            " status RUN, watch RUN, run CONFIG --no-ui (all of it: halos-tui --help)"
        )
    with collected_rarely():
        check_theme(options)
    from halos_tui.app import HalosApp  # textual: 0.2 s that no other verb pays

    sys.setswitchinterval(SWITCH_S)
    for name in STALE:
        os.environ.pop(name, None)
    app = HalosApp(options, run=run_dir)
    threading.excepthook = partial(_fail, app)
    app.run(mouse=options.mouse and app.config.mouse)
    if app.failure is not None:
        raise app.failure
    if app.return_code is None:
        raise RuntimeError("the app ended, and nothing in it says why")
    if app.ended_by is not None:
        notices.say(f"{app.ended_by.name} ended the app; every run goes on by itself")


def start_in_app(run_dir: RunDir, options: AppOptions) -> ExitCode:
    """Starts a new run's supervisor and shows the run; the exit code says how the run stands."""
    with Signals():  # a Ctrl-C must not end us between the run and its supervisor
        start.start_supervisor(run_dir)
    try:
        open_app(options, run_dir=run_dir)
    finally:  # the run goes on where the app has failed
        seen = observe(run_dir)
        notices.say_how_it_stands(run_dir, seen.state, status=seen.status)
    return seen.state.exit_code


def _fail(app: HalosApp, failed: threading.ExceptHookArgs) -> None:
    """Ends the app for an error in a reader's thread, whose screen would only stand still."""
    if isinstance(failed.exc_value, Exception):
        app.fail(failed.exc_value)


def _obstacle() -> str:
    """Says why no app can be shown here; "" where one can."""
    streams = {"input": sys.stdin, "output": sys.stdout, "error output": sys.stderr}
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            return f"its {name} is none"
    term = os.environ.get("TERM", "")
    return f"TERM={term} can place no text" if term in ("", "dumb") else ""


@contextmanager
def collected_rarely() -> Iterator[None]:
    """Loads things inside that are never garbage. Afterwards garbage is collected, but rarely."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(NUM_YOUNG, 10, 10)
        gc.enable()

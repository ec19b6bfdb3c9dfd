"""All screens and dialogs of a run, with the keys that open them from the run's own."""

from __future__ import annotations

from collections.abc import Sequence

from textual.pilot import Pilot
from textual.widgets import Input

from halos_tui.app import HalosApp
from halos_tui.run.screen import RunScreen
from tests.support.app_fixtures import until, until_shown

RUN = "reward before training"
VISITS = {
    "the run": ((), RUN),
    "help": (("question_mark",), "All keys"),
    "completions": (("c",), "sort "),
    "one completion": (("c", "enter", "d"), "sort "),
    "logs": (("l",), "train"),
    "metrics": (("m", "right"), "reward"),
    "changes": (("h",), "round"),
    "tweak": (("t",), "num_rounds"),
    "a value": (("t", "down", "enter"), "num_rounds"),
    "new run": (("n",), "New run, from"),
    "a dialog": (("f",), "A new run from a round"),
    "a choice": (("a",), "Abort"),
    "an entry": (("slash",), "ump to round"),
    "the palette": (("ctrl+p",), "To the screen before"),
}
"""Screens, with the keys that open them from a run, and a text on them."""
OPEN_LATE = "tnf"
"""Screens of these keys need the schema, and come when that is imported."""


async def visit(app: HalosApp, pilot: Pilot[int], keys: Sequence[str], text: str) -> None:
    for key in keys:
        before = app.screen
        await pilot.press(key)
        if key in OPEN_LATE:
            await until(pilot, lambda before=before: app.screen is not before)
    await until_shown(pilot, text)


async def leave(app: HalosApp, pilot: Pilot[int]) -> None:
    """To the run, whose own question escape closes."""
    if not any(isinstance(screen, RunScreen) for screen in app.screen_stack):
        return
    if isinstance(app.screen, RunScreen) and isinstance(app.focused, Input):
        await pilot.press("escape")
    while not isinstance(app.screen, RunScreen):
        app.pop_screen()
    await pilot.pause()

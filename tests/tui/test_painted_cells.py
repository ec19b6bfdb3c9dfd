"""Every cell has the theme's colours, or the terminal's own where a theme leaves them alone.

The app draws on an emulated terminal, whose cells know whether their colours are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import pytest
from halos_backend.store.run_dir import RunDir
from pyte.screens import Char
from textual.color import Color
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Resize
from textual.pilot import Pilot
from textual.screen import ModalScreen

from benchmarks.made_events import Shape
from benchmarks.made_runs import LiveRun, make_run
from halos_tui.app import HalosApp
from halos_tui.app_options import AppOptions
from halos_tui.charts.picture import MARKERS
from halos_tui.theme import MONOCHROME
from halos_tui.widgets.canvas import BRAILLE
from tests.support.app_fixtures import drive
from tests.support.colours import contrast
from tests.support.emulator import Emulator
from tests.support.visits import VISITS, leave, visit

TRUECOLOUR = ("dark", "light", "high-contrast", "colour-blind")
DOTS = {*BRAILLE.glyphs[1:], *MARKERS}
SHAPE = Shape(num_rounds=6, num_steps=20, num_groups=8)
OPENED_ANEW = ("a choice", "the palette")
"""The options of Textual 8.2.8 keep the colours in which they were first drawn."""


class Wire(HeadlessDriver):
    """Draws what it is sent on an emulated terminal."""

    is_headless = False  # type: ignore[assignment]
    emulator: Emulator

    def write(self, data: str) -> None:
        type(self).emulator.feed(data.encode())


def colours_of(cell: Char) -> tuple[str, str]:
    """Text and background, as a person sees them."""
    return (cell.bg, cell.fg) if cell.reverse else (cell.fg, cell.bg)


def is_painted(cell: Char) -> bool:
    text, background = colours_of(cell)
    return background != "default" and (cell.data.strip() == "" or text != "default")


def is_good(cell: Char) -> bool:
    """Painted, and to be read: WCAG 2.2, 1.4.3 for text and 1.4.11 for the lines of charts."""
    if not is_painted(cell) or not cell.data.strip():
        return is_painted(cell)
    wanted = 4.5 if cell.data.isalnum() else 3.0 if cell.data in DOTS else 1.0
    text, background = (Color.parse(f"#{colour}") for colour in colours_of(cell))
    return contrast(text, background) >= wanted


def is_the_terminals(cell: Char) -> bool:
    return cell.bg == "default" and (not cell.reverse or cell.fg == "default")


async def wrong_cells(
    app: HalosApp, pilot: Pilot[int], theme: str, holds: Callable[[Char], bool]
) -> set[tuple[str, ...]]:
    """Looks of cells that are not so, once all is painted in that theme on an empty terminal."""
    app.theme = theme
    await pilot.pause()
    Wire.emulator = Emulator(*app.size)
    app.post_message(Resize(app.size, app.size))
    await pilot.pause()
    assert Wire.emulator.text.strip()
    leaves = [one.region for one in app.screen.query("*") if not one.children]
    is_over = isinstance(app.screen, ModalScreen)
    wrong: set[tuple[str, ...]] = set()
    for (x, y), cell in placed(Wire.emulator):
        is_behind = is_over and not any(region.contains(x, y) for region in leaves)
        if not (is_painted if is_behind and holds is is_good else holds)(cell):
            wrong.add((cell.data, *colours_of(cell), "reversed" if cell.reverse else ""))
    return wrong


def placed(emulator: Emulator) -> Iterator[tuple[tuple[int, int], Char]]:
    screen = emulator.screen
    for y in range(screen.lines):
        for x in range(screen.columns):
            yield (x, y), screen.buffer[y][x]


def wrong_on_any_screen(
    folder: Path,
    size: tuple[int, int],
    themes: Mapping[str, Callable[[Char], bool]],
    *,
    in_turn: bool = False,
) -> dict[tuple[str, str], set[tuple[str, ...]]]:
    """Walks through all screens; gives the looks that are wrong, by screen and theme.

    With `in_turn` each screen is painted in one of the themes, which costs a fourth of the time.
    """
    found: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    turns = cycle(themes.items())

    async def check(
        app: HalosApp, pilot: Pilot[int], where: str, keys: Sequence[str], text: str
    ) -> None:
        for number, (theme, holds) in enumerate([next(turns)] if in_turn else themes.items()):
            app.theme = theme
            if number == 0 or where in OPENED_ANEW:
                await leave(app, pilot)
                await visit(app, pilot, keys, text)
            if wrong := await wrong_cells(app, pilot, theme, holds):
                found[where, theme] = wrong

    async def walk() -> None:
        run = made_runs(folder)
        Wire.emulator = Emulator(*size)
        app = HalosApp(AppOptions(folder))
        app.driver_class = Wire
        async with app.run_test(headless=False, size=size) as pilot:
            await check(app, pilot, "the list", (), "3 runs")
            app.open_run(run)
            for where, (keys, text) in VISITS.items():
                await check(app, pilot, where, keys, text)

    drive(walk())
    return found


def made_runs(folder: Path) -> RunDir:
    """Two that are complete, and one that trains, which is given."""
    for number in range(2):
        make_run(folder / f"run-{number}", SHAPE, seed=number)
    live = LiveRun(make_run(folder / "run-2", SHAPE, is_complete=False), SHAPE)
    live.start_training()
    live.train(20)
    return live.dir


@pytest.fixture(autouse=True)
def truecolour_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")


def test_every_cell_is_painted_except_where_the_colours_are_the_terminals(tmp_path: Path) -> None:
    themes = {**dict.fromkeys(TRUECOLOUR, is_good), "ansi-16": is_the_terminals}
    assert wrong_on_any_screen(tmp_path, (80, 24), themes) == {}


@pytest.mark.slow
def test_every_cell_of_a_large_terminal_is_painted(tmp_path: Path) -> None:
    themes = dict.fromkeys(TRUECOLOUR, is_good)
    assert wrong_on_any_screen(tmp_path, (200, 60), themes, in_turn=True) == {}


def test_no_color_leaves_every_cell_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert wrong_on_any_screen(tmp_path, (80, 24), {MONOCHROME: is_the_terminals}) == {}

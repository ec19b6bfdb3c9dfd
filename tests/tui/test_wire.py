from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Resize
from textual.geometry import Size
from textual.widgets import DataTable, Static

from halos_tui.terminal.diff_output import Look, Pen, ShownCells, SparingApp

SEQUENCE = re.compile(r"\x1b\[([?>=]?)([0-9;]*)(\$?[A-Za-z])|(.)", re.DOTALL)
WIDTH, HEIGHT = 40, 12


class FakeTerminal(HeadlessDriver):
    """Puts what it is sent on a screen of its own: characters with their looks."""

    is_headless = False
    sent = ""

    def write(self, data: str) -> None:
        type(self).sent += data


class Shown:
    """A terminal that knows cursor moves, colours and printable text; nothing else may come."""

    def __init__(self) -> None:
        self.cells = [[(" ", "")] * WIDTH for _ in range(HEIGHT)]
        self._y = self._x = 0
        self._look = ""

    def take(self, data: str) -> None:
        for private, numbers, command, character in SEQUENCE.findall(data):
            if character:
                self._print(character)
            elif command == "H":
                row, column = numbers.split(";")
                self._y, self._x = int(row) - 1, int(column) - 1
            elif command == "G":
                self._x = int(numbers) - 1
            elif command == "m":
                codes = numbers.removeprefix("0;") if numbers != "0" else ""
                assert numbers.startswith("0"), "every look begins from the plain one"
                self._look = codes
            else:
                assert private, f"unknown {command}"

    def _print(self, character: str) -> None:
        width = cell_len(character)
        if width == 0:
            before = self.cells[self._y][self._x - 1]
            self.cells[self._y][self._x - 1] = (before[0] + character, before[1])
            return
        self.cells[self._y][self._x] = (character, self._look)
        if width == 2:
            self.cells[self._y][self._x + 1] = ("", self._look)
        self._x += width

    def text(self) -> list[str]:
        return ["".join(character for character, _ in line) for line in self.cells]


class WireApp(SparingApp[None]):
    CSS = "Static { height: 3; } DataTable { height: 6; }"

    def compose(self) -> ComposeResult:
        yield Static("漢字 and e\u0301", markup=False)
        yield DataTable(show_cursor=False)

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("name", "reward")
        for row in range(5):
            table.add_row(f"run {row}", "0.5", key=str(row))


def drive(steps: Callable[[WireApp], list[Callable[[], object]]]) -> list[int]:
    """Does each step, checks that terminal and app agree, and gives the bytes each one cost."""

    async def run() -> list[int]:
        FakeTerminal.sent = ""
        app = WireApp(driver_class=FakeTerminal)
        shown = Shown()
        costs = []
        async with app.run_test(headless=False, size=(WIDTH, HEIGHT)) as pilot:
            await pilot.pause()
            for step in [lambda: None, *steps(app)]:
                step()
                await pilot.pause()
                costs.append(len(FakeTerminal.sent.encode()))
                shown.take(FakeTerminal.sent)
                FakeTerminal.sent = ""
                expected = [strip.text for strip in app.screen._compositor.render_strips()]
                assert [line.rstrip() for line in shown.text()] == [
                    line.rstrip() for line in expected
                ]
        return costs[1:]

    return asyncio.run(run())


def test_a_changed_cell_of_a_table_costs_a_cell() -> None:
    def steps(app: WireApp) -> list[Callable[[], object]]:
        table = app.query_one(DataTable)
        keys = list(table.columns)
        return [
            lambda: table.update_cell("3", keys[1], "0.6"),
            lambda: table.update_cell("3", keys[1], "0.6"),
        ]

    changed, unchanged = drive(steps)

    assert changed < 100
    assert unchanged < 40


def test_random_updates_leave_the_terminal_as_the_app_has_it() -> None:
    numbers = random.Random(0)
    pieces = ["漢", "字", "a", "b ", "  ", "e\u0301", "-"]

    def text() -> Text:
        found = Text()
        for _ in range(numbers.randrange(12)):
            style = numbers.choice(["", "red", "bold", "on blue", "underline", "reverse"])
            found.append(numbers.choice(pieces), style)
        return found

    def steps(app: WireApp) -> list[Callable[[], object]]:
        static = app.query_one(Static)
        return [lambda: static.update(text()) for _ in range(60)]

    costs = drive(steps)

    assert max(costs) < 1000


def test_the_place_is_given_anew_after_characters_of_unsure_width() -> None:
    look = Look("1", "")
    pen = Pen()
    shown = ShownCells()

    shown.draw(pen, 2, 4, [("a", look), ("👩‍🚀", look), ("", look), ("b", look)])

    assert pen.text() == "\x1b[3;5H\x1b[0;1ma👩‍🚀\x1b[8Gb\x1b[0m"


def test_what_did_not_change_is_sent_only_after_a_resize() -> None:
    def steps(app: WireApp) -> list[Callable[[], object]]:
        static = app.query_one(Static)
        size = Size(WIDTH, HEIGHT)
        return [
            static.refresh,
            lambda: app.post_message(Resize(size, size)),
            static.refresh,
        ]

    before, _, after = drive(steps)

    assert before < 40
    assert after > WIDTH

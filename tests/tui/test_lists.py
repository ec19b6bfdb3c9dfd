"""Every list with a cursor takes the same keys, wheel and clicks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import App, ComposeResult
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot
from textual.screen import Screen

from halos_tui.changes.entries import Entry
from halos_tui.changes.screen import ChangeList
from halos_tui.changes.screen import Listing as Changes
from halos_tui.completions.completion_list import CompletionList, Listing
from halos_tui.completions.round_index import CompletionRow
from halos_tui.completions.view import ListView
from halos_tui.logs.log_view import LogRows, SourceList, Sources
from halos_tui.logs.reader import LogSource
from halos_tui.logs.rows import LogRow, LogWindow
from halos_tui.new_run.screen import OfferList
from halos_tui.new_run.starts import Offer
from halos_tui.run.round_table import RoundTable
from halos_tui.run.view import RoundRow, RoundsView
from halos_tui.runs.reader import RunRow
from halos_tui.runs.run_list import RunList, RunListView
from halos_tui.settings.form import FormView
from halos_tui.settings.rows import Row
from halos_tui.settings.rows_list import SettingsRows
from halos_tui.tracking.rounds import RoundCells
from halos_tui.widgets.virtual_list import VirtualList
from tests.support.app_fixtures import drive, until

AnyList = VirtualList[Any, Any]
ROWS_IN_SIGHT = 12
MANY = range(1000, 1040)


@dataclass(frozen=True)
class Kind:
    """A list, and how it shows rows with these numbers, which are in their texts."""

    name: str
    make: type[AnyList]
    show: Callable[[Any, Sequence[int]], None]

    def __str__(self) -> str:
        return self.name


def show_runs(runs: RunList, numbers: Sequence[int]) -> None:
    runs.show(RunListView(tuple(RunRow(RunDir(Path(f"/run{n}")), "running") for n in numbers)))


def show_rounds(table: RoundTable, numbers: Sequence[int]) -> None:
    rest, figures = "........."[: len(WIDTHS) - 1], (None,) * len(WIDTHS)
    rows = tuple(RoundRow(n, RoundCells((str(n), *rest), figures)) for n in numbers)
    table.show(RoundsView(rows, WIDTHS, (None,) * len(WIDTHS)))


WIDTHS = (5, 7, 6, 6, 8, 4, 4, 6, 6, 6)


def show_settings(settings: SettingsRows, numbers: Sequence[int]) -> None:
    rows = tuple(Row(f"table{n // 5}.name{n}", "", "") for n in numbers)
    settings.show(FormView(rows, {}, {}, frozenset(), ()))


def show_offers(offers: OfferList, numbers: Sequence[int]) -> None:
    offers.show(tuple(Offer(f"offer {n}", "about it", _load) for n in numbers))


def _load(report: object) -> Any:
    raise AssertionError("nothing is chosen")


def show_log(log: LogRows, numbers: Sequence[int]) -> None:
    rows = tuple(LogRow((n, 0), n + 1, ((f"line {n}", ""),)) for n in numbers)
    (log.refill if log.shown else log.jump)(LogWindow(rows))


def show_sources(sources: SourceList, numbers: Sequence[int]) -> None:
    sources.show(Sources(tuple(LogSource(f"log {n}", Path(f"/{n}.log")) for n in numbers)))


def show_completions(completions: CompletionList, numbers: Sequence[int]) -> None:
    def row_of(key: int) -> CompletionRow:
        return CompletionRow(1, 0, 0, "a-prompt", 0.5, None, key, "stop")

    completions.show(Listing(ListView(keys=array("Q", numbers)), {}, row_of))


def show_changes(changes: ChangeList, numbers: Sequence[int]) -> None:
    entries = tuple(Entry(0.0, "tweak", "me", 1, "a.b", f"what {n}", number=n) for n in numbers)
    changes.show(Changes(entries, len(entries)))


ROUNDS = Kind("rounds", RoundTable, show_rounds)
LOG = Kind("log", LogRows, show_log)
KINDS = (
    Kind("runs", RunList, show_runs),
    ROUNDS,
    Kind("settings", SettingsRows, show_settings),
    Kind("offers", OfferList, show_offers),
    LOG,
    Kind("sources", SourceList, show_sources),
    Kind("completions", CompletionList, show_completions),
    Kind("changes", ChangeList, show_changes),
)
of_each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


class ListScreen(Screen[None]):
    """A list's headings name keys of the screen that it is on."""

    def key(self, action: str) -> str:
        return f"<{action}>"


class ListApp(App[None]):
    """It has one list, and counts how often a row of it is chosen."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self._kind = kind
        self.num_chosen = 0

    def get_default_screen(self) -> ListScreen:
        return ListScreen()

    def compose(self) -> ComposeResult:
        yield self._kind.make()

    def on_mount(self) -> None:
        self.list.focus()

    @property
    def list(self) -> AnyList:
        return self.query_one(VirtualList)

    @on(VirtualList.Chosen)
    def _chosen(self, message: VirtualList.Chosen) -> None:
        assert message.control is self.list
        self.num_chosen += 1


def on_list(
    kind: Kind, test: Callable[[AnyList, Pilot[None]], Any], numbers: Sequence[int] = MANY
) -> None:
    """Runs a test on a list with these rows, its cursor on the first one."""

    async def run() -> None:
        app = ListApp(kind)
        height = ROWS_IN_SIGHT + kind.make.HAS_HEADING
        async with app.run_test(size=(80, height)) as pilot:
            kind.show(app.list, numbers)
            app.list.action_first()
            await pilot.pause()
            await test(app.list, pilot)

    drive(run())


def places(shown: AnyList) -> list[int]:
    """The places where the cursor can be."""
    return [place for place in range(shown.num_rows) if shown.nearest(place) == place]


def index(shown: AnyList) -> int:
    return places(shown).index(shown.cursor)


async def until_drawn(pilot: Pilot[None], shown: AnyList, number: int) -> None:
    """Wait until the row of that number is on the line of the cursor."""

    def is_drawn() -> bool:
        y = shown.cursor - shown._top + shown.HAS_HEADING
        return 0 <= y < shown.size.height and str(number) in shown.render_line(y).text

    await until(pilot, is_drawn)


@of_each_kind
def test_keys_move_the_cursor_by_rows_and_pages_and_to_the_ends(kind: Kind) -> None:
    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        last = len(places(shown)) - 1
        for key, expected in (("down", 1), ("j", 2), ("k", 1), ("up", 0), ("up", 0)):
            await pilot.press(key)
            assert index(shown) == expected
        before = shown.cursor
        await pilot.press("pagedown")
        page = ROWS_IN_SIGHT - 1
        assert shown.cursor - before in (page, page + 1), "a heading may be in the way"
        await pilot.press("pageup")
        assert index(shown) in (0, 1)
        for key, expected in (("end", last), ("down", last), ("home", 0)):
            if kind is LOG and key != "down":  # the log has more rows than the list
                shown.action_last() if key == "end" else shown.action_first()
            else:
                await pilot.press(key)
            assert index(shown) == expected
            await until_drawn(pilot, shown, MANY[expected])

    on_list(kind, act)


@of_each_kind
def test_the_wheel_moves_the_cursor_by_three_rows(kind: Kind) -> None:
    async def turn(shown: AnyList, event: type[MouseScrollUp | MouseScrollDown]) -> None:
        shown.post_message(event(shown, 1, 1, 0, 0, 0, False, False, False))

    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        first = shown.cursor
        await turn(shown, MouseScrollDown)
        await until(pilot, lambda: shown.cursor == first + 3)
        await turn(shown, MouseScrollDown)
        await turn(shown, MouseScrollUp)
        await turn(shown, MouseScrollUp)
        await until(pilot, lambda: index(shown) == 0)

    on_list(kind, act)


@of_each_kind
def test_a_click_takes_the_cursor_and_two_choose_the_row(kind: Kind) -> None:
    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, ListApp)
        place = places(shown)[3]
        await pilot.click(VirtualList, offset=(3, place + shown.HAS_HEADING))
        assert index(shown) == 3
        assert app.num_chosen == (shown.CLICKS == 1)
        await pilot.click(VirtualList, offset=(3, place + 1 + shown.HAS_HEADING), times=2)
        assert index(shown) == 4
        await until(pilot, lambda: app.num_chosen == 1 + (shown.CLICKS == 1))
        if shown.HAS_HEADING:
            await pilot.click(VirtualList, offset=(3, 0))
            assert index(shown) == 4

    on_list(kind, act)


@of_each_kind
def test_a_click_below_the_rows_does_nothing(kind: Kind) -> None:
    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        await pilot.click(VirtualList, offset=(3, ROWS_IN_SIGHT - 1), times=2)
        assert index(shown) == 0
        assert pilot.app.num_chosen == 0  # type: ignore[attr-defined]

    on_list(kind, act, MANY[:4])


@of_each_kind
def test_the_cursor_stays_in_sight_when_there_is_room_for_fewer_rows(kind: Kind) -> None:
    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        for place, height in ((9, 6), (9, 3), (20, 9), (39, 20), (39, 3), (38, 2)):
            shown.move_to(place)
            number = MANY[index(shown)]
            await pilot.resize_terminal(80, height)
            await pilot.pause()
            assert shown.size.height == height
            await until_drawn(pilot, shown, number)

    on_list(kind, act)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not ROUNDS], ids=str)
def test_the_cursor_stays_on_its_row_when_others_come_before_it(kind: Kind) -> None:
    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        shown.action_move(7)
        number = MANY[10:][index(shown)]
        kind.show(shown, MANY)
        assert MANY[index(shown)] == number
        await until_drawn(pilot, shown, number)

    on_list(kind, act, MANY[10:])


@of_each_kind
def test_the_cursor_is_on_a_row_when_only_few_are_left(kind: Kind) -> None:
    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        shown.action_last()
        kind.show(shown, MANY[:3])
        await until_drawn(pilot, shown, MANY[index(shown)])
        kind.show(shown, ())
        await pilot.press("down", "up", "pagedown", "pageup", "enter")
        assert shown.at_cursor is None
        assert pilot.app.num_chosen == 0  # type: ignore[attr-defined]

    on_list(kind, act)


@of_each_kind
def test_a_key_makes_only_the_rows_in_sight(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    line_of = kind.make.line_of

    def noted(self: AnyList, shown: Any, row: Any, width: int) -> Any:
        made.append(row)
        return line_of(self, shown, row, width)

    monkeypatch.setattr(kind.make, "line_of", noted)

    async def act(shown: AnyList, pilot: Pilot[None]) -> None:
        shown.move_to(1000)
        for key in ("down", "pagedown", "up", "pageup"):
            await pilot.pause()
            made.clear()
            await pilot.press(key)
            assert len(made) <= 2 * ROWS_IN_SIGHT

    on_list(kind, act, range(1000, 3000))

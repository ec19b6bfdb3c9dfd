"""This widget lists the runs: its cursor stays on its run, and only rows in sight are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from halos_tui.run.run_header import STYLE_OF_STATUS
from halos_tui.runs.columns import Column, fitting_columns, texts_of
from halos_tui.runs.reader import RunRow
from halos_tui.widgets.panel import Line, Panel

SCROLL = 3


@dataclass(frozen=True)
class RunListView:
    """Holds rows in the order in which they are shown, or why there are none; `selected` are
    names.
    """

    rows: tuple[RunRow, ...] = ()
    selected: frozenset[str] = frozenset()
    sort: str = "started"
    is_reversed: bool = False
    why_empty: tuple[str, ...] = ()


class RunList(Panel[RunListView]):
    """It moves its cursor by itself; the screen decides what is done with the run at it."""

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Run before", show=False),
        Binding("down,j", "move(1)", "Run after", show=False),
        Binding("pageup", "page(-1)", "Runs before", show=False),
        Binding("pagedown", "page(1)", "Runs after", show=False),
        Binding("home", "first", "First run", show=False),
        Binding("end", "last", "Last run", show=False),
    ]

    class Moved(Message):
        """This message says that the cursor is on another run now."""

    class Opened(Message):
        """This message says that the run at the cursor was clicked twice."""

    class HeaderClicked(Message):
        """This message says that the title of a column was clicked, by which runs can be sorted."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._cursor = 0
        self._run_name = ""
        self._top = 0

    @property
    def at_cursor(self) -> RunRow | None:
        rows = self._listed
        return rows[self._cursor] if self._cursor < len(rows) else None

    def show(self, shown: RunListView) -> None:
        """Shows rows; the cursor stays on its run, or goes to the one that took its place."""
        places = {row.name: place for place, row in enumerate(shown.rows)}
        last = max(0, len(shown.rows) - 1)
        self._cursor = places.get(self._run_name, min(self._cursor, last))
        self._run_name = shown.rows[self._cursor].name if shown.rows else self._run_name
        super().show(shown)

    def lines(self, shown: RunListView, width: int, height: int) -> Iterator[Line]:
        """Yields the titles, and the rows around the cursor."""
        columns = fitting_columns(shown.rows, width)
        yield self._titles(shown, columns)
        yield from ([(f"  {text}", "")] for text in ("", *shown.why_empty) if shown.why_empty)
        self._scroll_to_cursor(height - 1)
        for place in range(self._top, min(len(shown.rows), self._top + height - 1)):
            row = shown.rows[place]
            is_selected = row.name in shown.selected
            yield self._row(row, columns, is_selected=is_selected, is_cursor=place == self._cursor)

    def move_to(self, place: int) -> None:
        """Puts the cursor there, or as near as there is a row."""
        place = max(0, min(place, len(self._listed) - 1))
        if self._listed and place != self._cursor:
            self._cursor = place
            self._run_name = self._listed[place].name
            self.repaint()
            self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        self.move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        self.move_to(self._cursor + by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        self.move_to(len(self._listed) - 1)

    def on_click(self, event: Click) -> None:
        if event.y == 0:
            if column := self._column_at(event.x):
                self.post_message(self.HeaderClicked(column))
        elif self._top + event.y - 1 < len(self._listed):
            self.move_to(self._top + event.y - 1)
            if event.chain == 2:
                self.post_message(self.Opened())

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-SCROLL)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(SCROLL)

    @property
    def _listed(self) -> tuple[RunRow, ...]:
        return self.shown.rows if self.shown else ()

    def _titles(self, shown: RunListView, columns: list[tuple[Column, int]]) -> Line:
        marks = "v^" if self.is_ascii else "▾▴"
        line = [("  ", "")]
        for column, width in columns:
            is_sorted = column.sort is not None and column.sort == shown.sort
            title = column.title + (marks[shown.is_reversed] if is_sorted else "")
            line.append((column.placed(title, width), "accent" if is_sorted else "muted"))
            line.append((" ", ""))
        return line

    def _row(
        self, row: RunRow, columns: list[tuple[Column, int]], *, is_selected: bool, is_cursor: bool
    ) -> Line:
        line = [("* " if is_selected else "  ", "cursor" if is_cursor else "accent")]
        for column, text, width in texts_of(row, columns, is_ascii=self.is_ascii):
            style = "cursor" if is_cursor else _style(row, column)
            line.append((column.placed(text, width), style))
            line.append((" ", "cursor" if is_cursor else ""))
        return line

    def _column_at(self, x: int) -> str | None:
        """Returns the name to sort by."""
        end = 2
        for column, width in fitting_columns(self._listed, self.size.width):
            if end <= x < end + width:
                return column.sort
            end += width + 1
        return None

    def _scroll_to_cursor(self, height: int) -> None:
        """Scrolls as little as is needed."""
        most = max(0, len(self._listed) - max(1, height))
        self._top = min(most, max(min(self._top, self._cursor), self._cursor - max(1, height) + 1))


def _style(row: RunRow, column: Column) -> str:
    match column.title:
        case "status":
            return "bad" if row.status == "unreadable" else STYLE_OF_STATUS.get(row.status, "")
        case "change" if row.reward_change is not None and row.reward_change.direction:
            return "good" if row.reward_change.direction > 0 else "bad"
        case "name":
            return "bad" if row.status == "unreadable" else ""
        case "started" | "loss":
            return "muted"
        case _:
            return ""

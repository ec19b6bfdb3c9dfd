"""This widget lists the runs: its cursor stays on its run, and only rows in sight are drawn.

Runs that are grouped stand below quiet headings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from textual.message import Message

from halos_tui.formatting import count
from halos_tui.run.run_header import STYLE_OF_STATUS
from halos_tui.runs.columns import Column, fitting_columns, group_of, texts_of
from halos_tui.runs.reader import RunRow
from halos_tui.tracking.rounds import usual_places
from halos_tui.widgets.panel import Line
from halos_tui.widgets.virtual_list import VirtualList


@dataclass(frozen=True)
class RunListView:
    """Holds rows in the order in which they are shown, or why there are none; `selected` are
    names. Rows that are grouped stand in the order of their groups.
    """

    rows: tuple[RunRow, ...] = ()
    selected: frozenset[str] = frozenset()
    sort: str = "started"
    is_reversed: bool = False
    is_grouped: bool = False
    why_empty: tuple[str, ...] = ()


class RunList(VirtualList[RunListView, RunRow | str]):
    """It moves its cursor by itself; the screen decides what is done with the run at it.

    A heading is listed as its text.
    """

    class HeaderClicked(Message):
        """This message says that the title of a column was clicked, by which runs can be sorted."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._fit: tuple[RunListView, int, list[tuple[Column, int]]] | None = None
        self._places = 0

    @property
    def at_cursor(self) -> RunRow | None:
        """Returns the run at the cursor."""
        row = super().at_cursor
        return row if isinstance(row, RunRow) else None

    def rows(self, shown: RunListView) -> Sequence[RunRow | str]:
        if not shown.is_grouped:
            return shown.rows
        listed: list[RunRow | str] = []
        for group, members in groupby(shown.rows, key=group_of):
            rows = [*members]
            listed += [f"{group}  {count(len(rows))}", *rows]
        return listed

    def is_heading(self, row: RunRow | str) -> bool:
        return isinstance(row, str)

    def key(self, row: RunRow | str) -> object:
        """Returns the run's name; the key of a heading is never that of a run."""
        return row.name if isinstance(row, RunRow) else (row,)

    def heading(self, shown: RunListView, width: int) -> Line:
        marks = "v^" if self.is_ascii else "▾▴"
        line = [("  ", "")]
        for column, room in self._columns(shown, width):
            is_sorted = column.sort is not None and column.sort == shown.sort
            title = column.title + (marks[shown.is_reversed] if is_sorted else "")
            line.append((column.placed(title, room), "accent" if is_sorted else "muted"))
            line.append((" ", ""))
        return line

    def if_empty(self, shown: RunListView) -> list[Line]:
        return [[(f"  {text}", "")] for text in ("", *shown.why_empty)]

    def line_of(self, shown: RunListView, row: RunRow | str, width: int) -> Line:
        if isinstance(row, str):
            return [(row, "muted")]
        line = [("* " if row.name in shown.selected else "  ", "accent")]
        columns = self._columns(shown, width)
        texts = texts_of(row, columns, places=self._places, is_ascii=self.is_ascii)
        for column, text, room in texts:
            line += [(column.placed(text, room), _style(row, column)), (" ", "")]
        return line

    def line_at_cursor(self, shown: RunListView, row: RunRow | str, width: int) -> Line:
        return [(text, "cursor") for text, _ in self.line_of(shown, row, width)]

    def heading_clicked(self, x: int) -> None:
        end = 2
        for column, room in self._columns(self.shown, self.size.width) if self.shown else ():
            if end <= x < end + room and column.sort:
                self.post_message(self.HeaderClicked(column.sort))
            end += room + 1

    def _columns(self, shown: RunListView, width: int) -> list[tuple[Column, int]]:
        """Returns the columns that fit, which takes a look at all rows, but once."""
        before = self._fit
        if before is None or before[0] is not shown or before[1] != width:
            before = self._fit = (shown, width, fitting_columns(shown.rows, width))
            self._places = usual_places(row.last_reward for row in shown.rows if row.last_reward)
        return before[2]


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
        case "tags":
            return "accent"
        case _:
            return ""

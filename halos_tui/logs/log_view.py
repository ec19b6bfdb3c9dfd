"""Owns what the screen of logs shows: rows of a log with a cursor, and the list of all logs.

The rows are some screens of them around the cursor; more are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from halos_tui.logs.reader import LogSource
from halos_tui.logs.rows import LogRow, LogWindow, Place
from halos_tui.text_layout import filled, num_cells
from halos_tui.widgets.panel import Line, Paced, key_of
from halos_tui.widgets.virtual_list import MOVES, VirtualList

SIDEWAYS = 16


class LogRows(VirtualList[LogWindow, LogRow], Paced[LogWindow], inherit_bindings=False):
    """It moves within the rows it has; the ends of the log are the screen's to go to."""

    HAS_HEADING = False
    IS_VERBATIM = True
    BYTES_PER_S = 14_000
    COMPONENT_CLASSES: ClassVar[set[str]] = {"panel--hit", "panel--chosen"}
    DEFAULT_CSS = """
    LogRows {
        .panel--hit { text-style: bold underline; color: $accent; }
        .panel--chosen { text-style: bold; background: $panel; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
        Binding("space", "page(1)", "Page after", show=False),
        Binding("left", "sideways(-1)", "To the left", show=False),
        Binding("right", "sideways(1)", "To the right", show=False),
    ]

    class Turned(Message):
        """This message says which way a person moved; `needs_rows` where few rows are left that
        way.
        """

        def __init__(self, *, up: bool, needs_rows: bool) -> None:
            super().__init__()
            self.up = up
            self.needs_rows = needs_rows

    class Sideways(Message):
        """This message asks for other columns."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self.chosen_from: Place | None = None
        """The lines that will be copied begin, or end, here."""
        self._why_empty = ""

    def rows(self, shown: LogWindow) -> tuple[LogRow, ...]:
        return shown.rows

    def say_why_empty(self, why: str) -> None:
        """Says why there are no rows, in their place."""
        if why != self._why_empty:
            self._why_empty = why
            self.repaint()

    def if_empty(self, shown: LogWindow) -> list[Line]:
        del shown
        return [[(self._why_empty, "muted")]]

    @property
    def is_at_end(self) -> bool:
        return self.shown is None or (self.shown.is_last and self.cursor >= self.num_rows - 1)

    def jump(self, window: LogWindow) -> None:
        """Shows a window with the cursor on the row it is about, a third from the top."""
        is_end = window.is_last and window.at >= len(window.rows) - 1
        top = len(window.rows) if is_end else window.at - self.room // 3
        self._turn_to(window, window.at, top)

    def refill(self, window: LogWindow) -> None:
        """Shows a window with the cursor and the screen where they are."""
        place = _place_in(window, self.at_cursor)
        self._turn_to(window, place, self._top + place - self.cursor)

    def choose_lines(self) -> None:
        """Begins to choose lines here, or gives up."""
        row = self.at_cursor
        self.chosen_from = row.place if row is not None and self.chosen_from is None else None
        self.repaint()

    def chosen_lines(self) -> tuple[int, int] | None:
        """Returns where the first and the last of the chosen lines begin; else the line at the
        cursor.
        """
        row = self.at_cursor
        if row is None:
            return None
        first, last = sorted(((self.chosen_from or row.place)[0], row.place[0]))
        return first, last

    def line_of(self, shown: LogWindow, row: LogRow, width: int) -> Line:
        del shown
        lines = None if self.chosen_from is None else self.chosen_lines()
        is_chosen = lines is not None and lines[0] <= row.place[0] <= lines[1]
        return filled(row.runs, width, "chosen") if is_chosen else row.runs

    def line_at_cursor(self, shown: LogWindow, row: LogRow, width: int) -> Line:
        """Marks the row; a hit keeps its own style."""
        del shown
        blank = (" " * (width - num_cells(row.runs)), "cursor")
        return [*((text, name or "cursor") for text, name in row.runs), blank]

    def action_move(self, by: int) -> None:
        super().action_move(by)
        self._say_turned(by)

    def action_page(self, by: int) -> None:
        super().action_page(by)
        self._say_turned(by)

    def action_sideways(self, by: int) -> None:
        self.post_message(self.Sideways(by * SIDEWAYS))

    def _turn_to(self, window: LogWindow, place: int, top: int) -> None:
        self.shown, self.listed = window, window.rows
        self.cursor, self._top = place, top
        self.repaint()

    def _say_turned(self, by: int) -> None:
        if by:
            self.post_message(self.Turned(up=by < 0, needs_rows=self._needs_rows(by)))

    def _needs_rows(self, by: int) -> bool:
        if self.shown is None:
            return False
        if by < 0:
            return not self.shown.is_first and self._top < self.room
        return not self.shown.is_last and self._top + 2 * self.room > self.num_rows


def _place_in(window: LogWindow, row: LogRow | None) -> int:
    """Returns the place of a row that was shown before, or of its line; else of the row asked
    for.
    """
    if row is not None:
        places = [other.place for other in window.rows]
        if row.place in places:
            return places.index(row.place)
        starts = [place[0] for place in places]
        if row.place[0] in starts:
            return starts.index(row.place[0])
    return window.at


@dataclass(frozen=True)
class Sources:
    """`now` is the log that is shown."""

    sources: tuple[LogSource, ...] = ()
    now: LogSource | None = None


class SourceList(VirtualList[Sources, LogSource], Paced[Sources]):
    """A click or enter takes a log."""

    CLICKS = 1
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "Choose", show=False)]

    def rows(self, shown: Sources) -> tuple[LogSource, ...]:
        return shown.sources

    def key(self, source: LogSource) -> Path:
        return source.path

    def offer(self, sources: tuple[LogSource, ...], now: LogSource | None) -> None:
        """Begins with the cursor on the log that is shown."""
        if now is not None:
            self.go_to(now.path)
        self.show(Sources(sources, now))

    def heading(self, shown: Sources, width: int) -> Line:
        del width
        told = f"{len(shown.sources)} logs; enter takes one, {key_of(self, 'back')} leaves"
        return [(told, "muted")]

    def line_of(self, shown: Sources, source: LogSource, width: int) -> Line:
        del width
        mark = "* " if source == shown.now else "  "
        return [(mark + source.title, ""), ("  running" if source.is_running else "", "accent")]

    def action_choose(self) -> None:
        self.choose()

"""This widget shows rows of a log with a cursor. It has some screens of rows, and asks for more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from halos_tui.logs.rows import LogRow, LogWindow, Place
from halos_tui.text_layout import filled, num_cells
from halos_tui.widgets.panel import Line, Paced

WHEEL_ROWS = 3
SIDEWAYS = 16


class LogRows(Paced[LogWindow]):
    """It moves within the rows it has; a cursor that leaves the screen takes it along by a
    third.
    """

    can_focus = True
    BYTES_PER_S = 14_000
    COMPONENT_CLASSES: ClassVar[set[str]] = {"panel--hit", "panel--chosen"}
    DEFAULT_CSS = """
    LogRows {
        .panel--hit { text-style: bold underline; color: $accent; }
        .panel--chosen { text-style: bold; background: $panel; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Row before", show=False),
        Binding("down,j", "move(1)", "Row after", show=False),
        Binding("pageup", "page(-1)", "Page before", show=False),
        Binding("pagedown,space", "page(1)", "Page after", show=False),
        Binding("left", "sideways(-1)", "To the left", show=False),
        Binding("right", "sideways(1)", "To the right", show=False),
    ]

    class Moved(Message):
        """This message says that the cursor moved; `needs_rows` where there are few rows left that
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
        self.cursor = 0
        self.chosen_from: Place | None = None
        """The lines that will be copied begin, or end, here."""
        self._top = 0

    @property
    def row(self) -> LogRow | None:
        """Returns the row at the cursor."""
        rows = self._log_rows
        return rows[self.cursor] if self.cursor < len(rows) else None

    @property
    def is_at_end(self) -> bool:
        return self.shown is None or (self.shown.is_last and self.cursor >= len(self._log_rows) - 1)

    def jump(self, window: LogWindow) -> None:
        """Shows a window with the cursor on the row it is about, a third from the top."""
        self.shown = window
        self.cursor = window.at
        self._top = window.at - self._room // 3
        if window.is_last and window.at >= len(window.rows) - 1:
            self._top = len(window.rows)
        self.repaint()

    def refill(self, window: LogWindow) -> None:
        """Shows a window with the cursor and the screen where they are."""
        row, above = self.row, self.cursor - self._top
        self.shown = window
        self.cursor = _place_in(window, row)
        self._top = self.cursor - above
        self.repaint()

    def choose(self) -> None:
        """Begins to choose lines here, or gives up."""
        row = self.row
        self.chosen_from = row.place if row is not None and self.chosen_from is None else None
        self.repaint()

    def chosen(self) -> tuple[int, int] | None:
        """Returns where the first and the last of the chosen lines begin; else the line at the
        cursor.
        """
        row = self.row
        if row is None:
            return None
        if self.chosen_from is None:
            return row.place[0], row.place[0]
        first, last = sorted((self.chosen_from[0], row.place[0]))
        return first, last

    def lines(self, shown: LogWindow, width: int, height: int) -> Iterator[Line]:
        self._keep_in_sight(height)
        for index in range(self._top, min(len(shown.rows), self._top + height)):
            row = shown.rows[index]
            if index == self.cursor:
                yield _under_cursor(row, width)
            elif self._is_chosen(row):
                yield filled(row.runs, width, "chosen")
            else:
                yield row.runs

    def action_move(self, by: int) -> None:
        before = self.cursor
        self.cursor = max(0, min(before + by, len(self._log_rows) - 1))
        self._keep_in_sight(self._room)
        self.repaint()
        if by:
            self.post_message(self.Moved(up=by < 0, needs_rows=self._needs_rows(by)))

    def action_page(self, by: int) -> None:
        room = max(1, self._room - 1)
        self._top += by * room
        self.action_move(by * room)

    def action_sideways(self, by: int) -> None:
        self.post_message(self.Sideways(by * SIDEWAYS))

    def on_click(self, event: Click) -> None:
        self.action_move(self._top + event.y - self.cursor)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(WHEEL_ROWS)

    @property
    def _log_rows(self) -> tuple[LogRow, ...]:
        return self.shown.rows if self.shown else ()

    @property
    def _room(self) -> int:
        return max(1, self.size.height)

    def _needs_rows(self, by: int) -> bool:
        if self.shown is None:
            return False
        if by < 0:
            return not self.shown.is_first and self._top < self._room
        return not self.shown.is_last and self._top + 2 * self._room > len(self._log_rows)

    def _is_chosen(self, row: LogRow) -> bool:
        if self.chosen_from is None or self.row is None:
            return False
        first, last = sorted((self.chosen_from[0], self.row.place[0]))
        return first <= row.place[0] <= last

    def _keep_in_sight(self, room: int) -> None:
        room = max(1, room)
        self.cursor = max(0, min(self.cursor, len(self._log_rows) - 1))
        more = room // 3
        if self.cursor < self._top:
            self._top = self.cursor - more
        elif self.cursor >= self._top + room:
            self._top = self.cursor - room + 1 + more
        self._top = max(0, min(self._top, len(self._log_rows) - room))


def _under_cursor(row: LogRow, width: int) -> Line:
    """Marks a row; a hit keeps its own style."""
    blank = (" " * (width - num_cells(row.runs)), "cursor")
    return [*((text, name or "cursor") for text, name in row.runs), blank]


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

"""This widget is a list of any length with a cursor: only the rows in sight are made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from halos_tui.text_layout import filled
from halos_tui.widgets.panel import Line, Paced, PanelData

WHEEL_ROWS = 3


class VirtualList(Paced[PanelData]):
    """It has a heading; a cursor that leaves the window takes it along by a third of its height.

    That draws far less than a window that moves with every row.
    """

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Row before", show=False),
        Binding("down,j", "move(1)", "Row after", show=False),
        Binding("pageup", "page(-1)", "Page before", show=False),
        Binding("pagedown", "page(1)", "Page after", show=False),
        Binding("home", "first", "First row", show=False),
        Binding("end", "last", "Last row", show=False),
    ]

    class Moved(Message):
        """This message says that other rows are in sight, or that the cursor is on another row."""

    class Chosen(Message):
        """This message says that the row at the cursor was clicked."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self.cursor = 0
        self._top = 0

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Counts the rows that there are now."""

    @abstractmethod
    def heading(self, shown: PanelData, width: int) -> Line:
        """Returns what stands above the rows."""

    @abstractmethod
    def row(self, shown: PanelData, place: int, width: int) -> Line:
        """Returns a row that is in sight."""

    def places(self) -> range:
        """Returns the places of the rows in sight."""
        self._keep_cursor_in_sight()
        return range(self._top, min(self.num_rows, self._top + self._room))

    def move_to(self, place: int) -> None:
        """Puts the cursor there, or as near as there is a row."""
        before = (self.cursor, self._top)
        self.cursor = max(0, min(place, self.num_rows - 1))
        self._keep_cursor_in_sight()
        if (self.cursor, self._top) != before:
            self.repaint()
            self.post_message(self.Moved())

    def lines(self, shown: PanelData, width: int, height: int) -> Iterator[Line]:
        del height
        yield self.heading(shown, width)
        for place in self.places():
            line = self.row(shown, place, width)
            yield filled(line, width, "cursor") if place == self.cursor else line

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._top = max(0, self._top + by * self._room)
        self.move_to(self.cursor + by * self._room)

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        self.move_to(self.num_rows - 1)

    def on_resize(self) -> None:
        self.post_message(self.Moved())

    def on_click(self, event: Click) -> None:
        place = self._top + event.y - 1
        if event.y > 0 and place < self.num_rows:
            self.move_to(place)
            self.post_message(self.Chosen())

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(WHEEL_ROWS)

    @property
    def _room(self) -> int:
        return max(1, self.size.height - 1)

    def _keep_cursor_in_sight(self) -> None:
        self.cursor = max(0, min(self.cursor, self.num_rows - 1))
        more = self._room // 3
        if self.cursor < self._top:
            self._top = self.cursor - more
        elif self.cursor >= self._top + self._room:
            self._top = self.cursor - self._room + 1 + more
        self._top = max(0, min(self._top, self.num_rows - self._room))

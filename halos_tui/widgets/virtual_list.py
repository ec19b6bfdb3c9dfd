"""Owns lists of any length with a cursor, and the keys of all that moves by rows.

Only the rows in sight are made. What a row looks like and what is done with it is known by the
screen that has the list.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from operator import indexOf
from typing import ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.widget import Widget

from halos_tui.text_layout import filled
from halos_tui.widgets.panel import Line, Panel, PanelData

RowData = TypeVar("RowData")
MOVES: tuple[BindingType, ...] = (
    Binding("up,k", "move(-1)", "Row before", show=False),
    Binding("down,j", "move(1)", "Row after", show=False),
    Binding("pageup", "page(-1)", "Page before", show=False),
    Binding("pagedown", "page(1)", "Page after", show=False),
)


class Moving(Widget):
    """It moves by rows, with keys and with the wheel; subclasses say what moves."""

    WHEEL_ROWS: ClassVar[int] = 3
    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
        Binding("home", "first", "First row", show=False),
        Binding("end", "last", "Last row", show=False),
    ]

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Counts the rows that there are now."""

    @property
    @abstractmethod
    def page_rows(self) -> int:
        """Counts the rows that a page moves by."""

    @abstractmethod
    def action_move(self, by: int) -> None:
        """Moves by so many rows, as far as there are any."""

    def action_page(self, by: int) -> None:
        self.action_move(by * self.page_rows)

    def action_first(self) -> None:
        self.action_move(-self.num_rows)

    def action_last(self) -> None:
        self.action_move(self.num_rows)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-self.WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(self.WHEEL_ROWS)


class VirtualList(Panel[PanelData], Moving, Generic[PanelData, RowData]):
    """The cursor stays on its row when other rows come and go around it.

    A cursor that leaves the window takes it along by a third of its height. That draws far less
    than a window that moves with every row.
    """

    can_focus = True
    HAS_HEADING: ClassVar[bool] = True
    CLICKS: ClassVar[int] = 2
    """So many clicks at a time choose a row."""

    class Moved(Message):
        """This message says that other rows are in sight, or that the cursor is on another row."""

    class Chosen(Message):
        """This message says that a person wants the row at the cursor."""

        def __init__(self, control: Widget) -> None:
            super().__init__()
            self._control = control

        @property
        def control(self) -> Widget:
            """Returns the list."""
            return self._control

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self.listed: Sequence[RowData] = ()
        self.cursor = 0
        self._key: object = None
        self._top = 0

    @abstractmethod
    def rows(self, shown: PanelData) -> Sequence[RowData]:
        """Returns what is listed; it is called once for all that is shown."""

    @abstractmethod
    def line_of(self, shown: PanelData, row: RowData, width: int) -> Line:
        """Returns the line of a row that is in sight."""

    def key(self, row: RowData) -> object:
        """Returns what stays the same of a row while it changes."""
        return row

    def heading(self, shown: PanelData, width: int) -> Line:
        """Returns what stands above the rows."""
        del shown, width
        return ()

    def heading_clicked(self, x: int) -> None:
        """Does what a click on the heading asks for."""

    def if_empty(self, shown: PanelData) -> Iterable[Line]:
        """Returns what stands in the place of rows that are not there."""
        del shown
        return ()

    def line_at_cursor(self, shown: PanelData, row: RowData, width: int) -> Line:
        """Returns the line of the row that the cursor is on."""
        return filled(self.line_of(shown, row, width), width, "cursor")

    def is_heading(self, row: RowData) -> bool:
        """Says whether a row heads those below it: at least one follows, and the cursor is never on
        it.
        """
        del row
        return False

    def nearest(self, place: int) -> int:
        """Returns the place, or the one near it where the cursor can be."""
        place = max(0, min(place, self.num_rows - 1))
        if self._heads(place):
            return place - 1 if 0 < place < self.cursor else place + 1
        return place

    def first_with(self, place: int) -> int:
        """Returns the first row that must be in sight with the one at that place."""
        return place - 1 if place and self._heads(place - 1) else place

    @property
    def num_rows(self) -> int:
        return len(self.listed)

    @property
    def page_rows(self) -> int:
        """Leaves a row of the page before in sight."""
        return max(1, self.room - 1)

    @property
    def room(self) -> int:
        """Counts the rows that fit."""
        return max(1, self.size.height - self.HAS_HEADING)

    @property
    def at_cursor(self) -> RowData | None:
        return self.listed[self.cursor] if self.cursor < self.num_rows else None

    def places(self) -> range:
        """Returns the places of the rows in sight."""
        self._keep_cursor_in_sight()
        return range(self._top, min(self.num_rows, self._top + self.room))

    def show(self, shown: PanelData) -> None:
        """Shows other rows; the cursor stays on its row, or goes to the one that took its place."""
        self.listed = self.rows(shown)
        place = self.nearest(self.cursor)
        if self.listed and self._key is not None and self.key(self.listed[place]) != self._key:
            found = self._place_of(self._key)
            place = place if found is None else found
        self._put_cursor(place)
        super().show(shown)

    def start_anew(self) -> None:
        """Forgets the row at the cursor, so that what is shown next is shown from its first row."""
        self.cursor = self._top = 0
        self._key = None

    def list_anew(self) -> None:
        """Lists other rows of what is shown; without its row the cursor goes to the first."""
        if self.shown is not None:
            self.listed = self.rows(self.shown)
            self._put_cursor(self._place_of(self._key) or 0)
            self.repaint()
            self.post_message(self.Moved())

    def go_to(self, key: object) -> None:
        """Puts the cursor on a row, as soon as there is one of that key."""
        place = self._place_of(key)
        if place is None:
            self._key = key
        else:
            self.move_to(place)

    def move_to(self, place: int) -> None:
        """Puts the cursor there, or as near as there is a row."""
        self._move(place, self._top)

    def choose(self) -> None:
        """Says that the row at the cursor is wanted."""
        if self.listed:
            self.post_message(self.Chosen(self))

    def lines(self, shown: PanelData, width: int, height: int) -> Iterator[Line]:
        del height
        if self.HAS_HEADING:
            yield self.heading(shown, width)
        if not self.listed:
            yield from self.if_empty(shown)
        for place in self.places():
            line_of = self.line_at_cursor if place == self.cursor else self.line_of
            yield line_of(shown, self.listed[place], width)

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Takes the window along, so that the cursor stays where it is in it."""
        by *= self.page_rows
        self._move(self.cursor + by, self._top + by)

    def on_click(self, event: Click) -> None:
        place = self._top + event.y - self.HAS_HEADING
        if event.y < self.HAS_HEADING:
            self.heading_clicked(event.x)
        elif self.nearest(place) == place:
            self.action_move(place - self.cursor)
            if event.chain == self.CLICKS:
                self.choose()

    def _move(self, place: int, top: int) -> None:
        before = (self.cursor, self._top)
        self._top = top
        self._put_cursor(self.nearest(place))
        self._keep_cursor_in_sight()
        if (self.cursor, self._top) != before:
            self.repaint()
            self.post_message(self.Moved())

    def _put_cursor(self, place: int) -> None:
        self.cursor = self.nearest(place)
        if self.listed:
            self._key = self.key(self.listed[self.cursor])

    def _place_of(self, key: object) -> int | None:
        try:
            return indexOf(map(self.key, self.listed), key)
        except ValueError:
            return None

    def _heads(self, place: int) -> bool:
        return place < self.num_rows and self.is_heading(self.listed[place])

    def _keep_cursor_in_sight(self) -> None:
        if not self.size.height:
            return
        self.cursor = self.nearest(self.cursor)
        first, room = self.first_with(self.cursor), self.room
        if first < self._top:
            self._top = first - room // 3
        if self.cursor >= self._top + room:
            self._top = self.cursor - room + 1 + room // 3
        self._top = max(0, min(self._top, self.num_rows - room))

"""This widget lists the rows of the settings form with a cursor and a filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from halos_tui.formatting import visible
from halos_tui.settings.form import FormView
from halos_tui.settings.rows import Row, matches
from halos_tui.widgets.panel import Line, Panel

SCROLL = 3
MARK = 2
NARROWEST_NAME = 12
WIDEST_NAME = 34
UNSET = "unset"
MISSING = "missing"


class SettingsRows(Panel[FormView]):
    """It shows tables with their settings. The cursor is on a setting, never on a table's heading.

    With `title` two values stand beside each other: that of now, and that under the title.
    """

    can_focus = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Setting before", show=False),
        Binding("down,j", "move(1)", "Setting after", show=False),
        Binding("pageup", "page(-1)", "Settings before", show=False),
        Binding("pagedown", "page(1)", "Settings after", show=False),
        Binding("home", "end(-1)", "First setting", show=False),
        Binding("end", "end(1)", "Last setting", show=False),
        Binding("tab", "table(1)", "Next table", show=False),
        Binding("shift+tab", "table(-1)", "Table before", show=False),
    ]

    class Moved(Message):
        """This message says that the cursor is on another setting now, or on none."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self.title = ""
        self.filter = ""
        self._cursor = ""
        self._top = 0

    @property
    def row(self) -> Row | None:
        """Returns the setting at the cursor."""
        found = self.found
        at_cursor = next((row for row in found if row.path == self._cursor), None)
        return at_cursor or (found[0] if found else None)

    @property
    def found(self) -> list[Row]:
        """Returns the settings that fit the filter."""
        rows = self.shown.rows if self.shown else ()
        return [row for row in rows if matches(row, self.filter)]

    def search(self, text: str) -> None:
        """Shows only what fits."""
        self.filter = text
        self.repaint()
        self.post_message(self.Moved())

    def go_to(self, path: str) -> None:
        """Puts the cursor on a setting."""
        self._cursor = path
        self.repaint()
        self.post_message(self.Moved())

    def value_place(self) -> tuple[int, int] | None:
        """Returns column and line, in the widget, where the value at the cursor is edited."""
        row = self.row
        if row is None:
            return None
        for y, item in enumerate(self._items()[self._top :], start=1):
            if item == row and y < self.size.height:
                return MARK + self._name_width + 1 + (self._now_width if self.title else 0), y
        return None

    def lines(self, shown: FormView, width: int, height: int) -> Iterator[Line]:
        del width
        yield self._header()
        items = self._items()
        if not items:
            yield [("  no setting fits the search; escape takes it away", "muted")]
        self._scroll(items, height - 1)
        row = self.row
        for item in items[self._top : self._top + height - 1]:
            if isinstance(item, str):
                about = shown.headings.get(item, "")
                yield [(item, "title"), (f"  {about}", "muted")]
            else:
                yield self._line(shown, item, is_cursor=item == row)

    def action_move(self, by: int) -> None:
        found = self.found
        if (row := self.row) is not None:
            place = max(0, min(len(found) - 1, found.index(row) + by))
            self.go_to(found[place].path)

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.size.height - 3))

    def action_end(self, by: int) -> None:
        self.action_move(by * len(self.found))

    def action_table(self, by: int) -> None:
        """Moves to the first setting of the table after, or before."""
        found = self.found
        if (row := self.row) is None:
            return
        tables = list(dict.fromkeys(row.table for row in found))
        table = tables[(tables.index(row.table) + by) % len(tables)]
        self.go_to(next(row.path for row in found if row.table == table))

    def on_click(self, event: Click) -> None:
        items = self._items()[self._top :]
        if 0 < event.y <= len(items) and isinstance(item := items[event.y - 1], Row):
            self.go_to(item.path)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-SCROLL)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(SCROLL)

    def _items(self) -> list[str | Row]:
        """Returns headings as their paths, each before its settings."""
        items: list[str | Row] = []
        table = None
        for row in self.found:
            if row.table != table and not row.makes_entry:
                table = row.table
                items.append(table)
            items.append(row)
        return items

    def _header(self) -> Line:
        if not self.title:
            return [(" " * MARK + set_cell_size("setting", self._name_width) + " value", "muted")]
        name = set_cell_size("setting", self._name_width)
        now = set_cell_size("now", self._now_width)
        return [(f"{' ' * MARK}{name} {now}{self.title}", "muted")]

    def _line(self, shown: FormView, row: Row, *, is_cursor: bool) -> Line:
        problem = shown.problems.get(row.path)
        is_edited = row.path in shown.edited
        mark = "!" if problem else "*" if is_edited else " "
        style = "bad" if problem else "accent" if is_edited else "muted" if row.fixed else ""
        name = f"new {row.name} ..." if row.makes_entry else row.name
        line: list[tuple[str, str]] = [
            (f"{mark} ", "bad" if problem else "accent"),
            (f"{_cell(name, self._name_width)} ", "cursor" if is_cursor else ""),
        ]
        value = _value_text(row)
        if not self.title:
            return [*line, (value, style or self._own_style(row))]
        now = shown.now.get(row.path)
        line.append(
            (f"{_cell('' if now is None else now or UNSET, self._now_width - 1)} ", "muted")
        )
        if row.fixed:
            return [*line, ("fixed", "muted")]
        is_same = now is not None and (now or UNSET) == value and not is_edited
        return [*line, ("" if is_same and not row.makes_entry else value, style)]

    def _own_style(self, row: Row) -> str:
        """Returns a dim style for what nobody set, but not for what must be set and is missing."""
        if row.is_required and not row.value:
            return "warning"
        return "muted" if row.value == row.default or row.makes_entry else ""

    @property
    def _name_width(self) -> int:
        rows = self.shown.rows if self.shown else ()
        longest = max((len(row.name) for row in rows), default=0)
        return max(NARROWEST_NAME, min(WIDEST_NAME, longest, self.size.width // 3))

    @property
    def _now_width(self) -> int:
        half = (self.size.width - MARK - self._name_width - 1) // 2
        longest = max(map(cell_len, self.shown.now.values()), default=0) if self.shown else 0
        return max(8, min(half, longest + 2))

    def _scroll(self, items: list[str | Row], height: int) -> None:
        """Scrolls as little as the cursor needs, with the heading above it in sight."""
        row = self.row
        place = items.index(row) if row in items else 0
        above = place - 1 if place and isinstance(items[place - 1], str) else place
        most = max(0, len(items) - max(1, height))
        self._top = min(most, max(min(self._top, above), place - max(1, height) + 1))


def _value_text(row: Row) -> str:
    if row.makes_entry:
        return ""
    return row.value or (MISSING if row.is_required else UNSET)


def _cell(text: str, width: int) -> str:
    """Fits a text in exactly so many cells, with dots where something is left out."""
    shown = visible(text)
    if cell_len(shown) <= width:
        return set_cell_size(shown, width)
    return set_cell_size(shown, max(0, width - 2)) + ".."

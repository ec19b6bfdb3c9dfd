"""This widget lists the rows of the settings form with a cursor and a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from halos_backend.findings import with_level
from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType

from halos_tui.formatting import visible
from halos_tui.settings.form import FormView
from halos_tui.settings.rows import UNSET, Row, find_rows
from halos_tui.widgets.panel import Line, key_of
from halos_tui.widgets.virtual_list import VirtualList

MARK = 2
NARROWEST_NAME = 12
WIDEST_NAME = 34
MISSING = "missing"
CHANGED_OFTEN = "often changed"
LEVEL_STYLES = {"problem": "bad", "warning": "warning", "ok": "muted"}
"""The doctor's levels have these styles."""


class SettingsRows(VirtualList[FormView, str | Row]):
    """It shows what is often changed, then all tables with their settings; or what fits a search,
    the best first. The cursor is on a setting, never on a heading.

    A heading is listed as the path of its table. Where a run is changed two values stand beside
    each other: that of now, and that from a round on.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "table(1)", "Next table", show=False),
        Binding("shift+tab", "table(-1)", "Table before", show=False),
    ]

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self.filter = ""

    @property
    def row(self) -> Row | None:
        """Returns the setting at the cursor."""
        row = self.at_cursor
        return row if isinstance(row, Row) else None

    def rows(self, shown: FormView) -> list[str | Row]:
        """Returns the settings, each under the heading of its table."""
        if self.filter:
            return _with_headings(find_rows(shown.rows, self.filter))
        by_path = {row.path: row for row in shown.rows if not row.fixed}
        often = [replace(by_path[path], is_often=True) for path in shown.often if path in by_path]
        return _with_headings([*often, *shown.rows])

    def key(self, item: str | Row) -> str:
        if isinstance(item, str):
            return f"[{item}]"
        return often_key(item.path) if item.is_often else item.path

    def is_heading(self, item: str | Row) -> bool:
        return isinstance(item, str)

    def search(self, text: str) -> None:
        """Shows only what fits, with the cursor on the first; "" shows all, with it where it is."""
        self.filter = text
        self.list_anew()
        if text:
            self.move_to(0)

    def value_place(self) -> tuple[int, int] | None:
        """Returns column and line, in the widget, where the value at the cursor is edited."""
        y = self.cursor - self.places().start + 1
        if self.row is None or y >= self.size.height:
            return None
        return MARK + self._name_width + 1 + self._now_width, y

    def if_empty(self, shown: FormView) -> list[Line]:
        del shown
        return [[(f"  no setting fits the search; {key_of(self, 'back')} takes it away", "muted")]]

    def action_table(self, by: int) -> None:
        """Moves to the first setting of the table after, or before."""
        starts = [
            place + 1 for place in range(self.num_rows) if self.is_heading(self.listed[place])
        ]
        if starts:
            here = sum(start <= self.cursor for start in starts) - 1
            self.move_to(starts[(here + by) % len(starts)])

    def heading(self, shown: FormView, width: int) -> Line:
        del width
        if shown.from_round is None:
            return [(" " * MARK + set_cell_size("setting", self._name_width) + " value", "muted")]
        name = set_cell_size("setting", self._name_width)
        now = set_cell_size("now", self._now_width)
        return [(f"{' ' * MARK}{name} {now}from round {shown.from_round}", "muted")]

    def line_of(self, shown: FormView, row: str | Row, width: int) -> Line:
        del width
        if isinstance(row, str):
            return [(row, "title"), (f"  {_about(row, shown)}", "muted")]
        wrong = _is_wrong(shown, row)
        differs = row.path in shown.differs
        style = wrong or ("accent" if differs else "muted" if row.fixed else "")
        name = row.path if row.is_often else row.name
        name = f"new {name} ..." if row.makes_entry else name
        mark = f"{'!' if wrong else ''}{'*' if differs else ''}"
        line: list[tuple[str, str]] = [
            (f"{mark:{MARK}}", wrong or "accent"),
            (f"{_cell(name, self._name_width)} ", ""),
        ]
        value = _value_text(row)
        beside = _beside(shown, row)
        if shown.from_round is None:
            return [*line, (value, style or self._own_style(row)), *beside]
        now = shown.now.get(row.path)
        line.append(
            (f"{_cell('' if now is None else now or UNSET, self._now_width - 1)} ", "muted")
        )
        if row.fixed:
            return [*line, ("fixed", "muted")]
        is_same = now is not None and (now or UNSET) == value and not differs
        return [*line, ("" if is_same and not row.makes_entry else value, style), *beside]

    def line_at_cursor(self, shown: FormView, row: str | Row, width: int) -> Line:
        mark, (name, _), *values = self.line_of(shown, row, width)
        return [mark, (name, "cursor"), *values]

    def _own_style(self, row: Row) -> str:
        """Returns a dim style for what nobody set, but not for what must be set and is missing."""
        if row.is_required and not row.value:
            return "warning"
        return "muted" if row.value == row.default or row.makes_entry else ""

    @property
    def _name_width(self) -> int:
        rows = self.shown.rows if self.shown else ()
        often = self.shown.often if self.shown else ()
        longest = max(map(len, (*often, *(row.name for row in rows))), default=0)
        return max(NARROWEST_NAME, min(WIDEST_NAME, longest, self.size.width // 3))

    @property
    def _now_width(self) -> int:
        if self.shown is None or self.shown.from_round is None:
            return 0
        half = (self.size.width - MARK - self._name_width - 1) // 2
        longest = max(map(cell_len, self.shown.now.values()), default=0)
        return max(8, min(half, longest + 2))


def often_key(path: str) -> str:
    """Returns the key of the row that stands among what is often changed."""
    return f"often {path}"


def _with_headings(rows: Sequence[Row]) -> list[str | Row]:
    items: list[str | Row] = []
    heading = None
    for row in rows:
        over = CHANGED_OFTEN if row.is_often else row.table
        if over != heading and not row.makes_entry:
            heading = over
            items.append(over)
        items.append(row)
    return items


def _about(heading: str, shown: FormView) -> str:
    if heading == CHANGED_OFTEN:
        return "each stands in its table too"
    return shown.headings.get(heading, "")


def _is_wrong(shown: FormView, row: Row) -> str:
    """Returns the style of what is wrong with a setting; "" where nothing is."""
    if row.path in shown.problems:
        return "bad"
    found = shown.found.get(row.path)
    return LEVEL_STYLES[found[0].level] if found else ""


def _beside(shown: FormView, row: Row) -> Line:
    """Returns what there is to say of a value, behind it: what is wrong, or what it was."""
    wrong = _is_wrong(shown, row)
    if problem := shown.problems.get(row.path):
        return [(f"  {problem}", wrong)]
    if found := shown.found.get(row.path):
        return [(f"  {with_level(found[0])}", wrong)]
    note = shown.notes.get(row.path)
    return [(f"  {note}", "muted")] if note else []


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

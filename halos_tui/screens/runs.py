"""All runs at a glance: filter, sort, select, open one."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from halos_backend.errors import UsageError
from halos_backend.store.run_dir import RunDir
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, Static

from halos_tui.actions import ScreenName
from halos_tui.formatting import ABSENT, date_time, number, plural, signed, visible
from halos_tui.messages import Updated
from halos_tui.run_filter import RunFilter, parse_filter
from halos_tui.runs_reader import RunRow, RunsReader
from halos_tui.screens.base import HalosScreen
from halos_tui.widgets.sparkline import sparkline

SPARKLINE_WIDTH = 12
WIDE = 100
"""From this width on there is room for all columns."""
GLYPHS = {
    "running": "▶",
    "pausing": "▷",
    "paused": "‖",
    "completed": "✓",
    "failed": "✗",
    "aborted": "■",
    "aborting": "□",
    "lost": "?",
    "stalled": "!",
    "created": "·",
    "unreadable": "!",
}
ASCII_GLYPHS = {
    "running": ">",
    "pausing": ">",
    "paused": "=",
    "completed": "+",
    "failed": "x",
    "aborted": "#",
    "aborting": "#",
    "lost": "?",
    "stalled": "!",
    "created": ".",
    "unreadable": "!",
}
LEAST_WIDTHS = {
    "": 1,
    "status": 12,
    "round": 7,
    "stage": 7,
    "reward": 8,
    "change": 8,
    "rewards": 12,
}
"""So that a value that comes later seldom moves the columns."""
SORTS: dict[str, Callable[[RunRow], tuple[bool, object]]] = {
    "started": lambda row: (False, -row.created_t),
    "name": lambda row: (False, row.name),
    "status": lambda row: (False, row.status),
    "round": lambda row: (False, -row.round),
    "loss": lambda row: (False, row.loss),
    "reward": lambda row: (row.reward is None, -(row.reward or 0.0)),
}
"""What the list is sorted by, in the order of the key; the newest, furthest and best come first."""


class RunsScreen(HalosScreen):
    """The first screen. Selected runs are marked; without any, actions are about the cursor's."""

    NAME: ClassVar[ScreenName] = "runs"
    DEFAULT_CSS = """
    RunsScreen {
        #title { height: 1; text-style: bold; }
        #filter { height: 1; border: none; padding: 0; display: none; }
        #empty { height: 1fr; padding: 1 2; display: none; }
        #runs { height: 1fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[RunRow, ...] = ()
        self._shown: list[RunRow] = []
        self._cells: dict[str, list[Text]] = {}
        self._selected: set[str] = set()
        self._filter = RunFilter()
        self._sort = "started"
        self._is_reversed = False
        self._has_read = False

    def compose(self) -> ComposeResult:
        yield Static("", id="title", markup=False)
        yield DataTable[Text](id="runs", cursor_type="row", cell_padding=1)
        yield Static("", id="empty", markup=False)
        yield Input(
            placeholder="words, status:paused, loss:kto, train.lr>=1e-6, -name:test", id="filter"
        )
        yield Footer()

    def on_mount(self) -> None:
        self._table.focus()
        self.follow(RunsReader(self.halos.options.runs_root).read, interval_s=0.5)
        self._say("reading ...")

    def on_resize(self) -> None:
        self._rebuild()

    def on_updated(self, message: Updated[tuple[RunRow, ...]]) -> None:
        self._rows = message.view
        self._has_read = True
        self._refresh()

    def selected_runs(self) -> list[RunDir]:
        """Those that are selected and shown, else that at the cursor."""
        chosen = [row.run_dir for row in self._shown if row.name in self._selected]
        at_cursor = self._at_cursor()
        return chosen or ([at_cursor.run_dir] if at_cursor else [])

    def action_open(self) -> None:
        if (row := self._at_cursor()) is None:
            return
        if row.status == "unreadable":
            self.notify(visible(row.problem), severity="error", markup=False)
        else:
            self.halos.open_run(row.run_dir)

    def action_select(self) -> None:
        if (row := self._at_cursor()) is not None:
            self._selected ^= {row.name}
            self._refresh()
            self._table.action_cursor_down()

    def action_select_all(self) -> None:
        shown = {row.name for row in self._shown}
        self._selected = set() if shown <= self._selected else self._selected | shown
        self._refresh()

    def action_sort(self) -> None:
        names = list(SORTS)
        self._sort = names[(names.index(self._sort) + 1) % len(names)]
        self._refresh()

    def action_reverse(self) -> None:
        self._is_reversed = not self._is_reversed
        self._refresh()

    def action_search(self) -> None:
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def action_back(self) -> None:
        """Out of the filter, which then is empty; or out of the selection."""
        field = self.query_one("#filter", Input)
        if field.display:
            field.value = ""
            field.display = False
            self._table.focus()
        elif self._selected:
            self._selected.clear()
            self._refresh()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, message: Input.Changed) -> None:
        try:
            self._filter = parse_filter(message.value)
        except UsageError as error:
            self._say(visible(str(error)))
            return
        self._refresh()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        field = self.query_one("#filter", Input)
        field.display = bool(field.value)
        self._table.focus()

    @on(DataTable.RowSelected)
    def _row_chosen(self) -> None:
        self.action_open()

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#runs", DataTable)

    def _at_cursor(self) -> RunRow | None:
        row = self._table.cursor_row
        return self._shown[row] if 0 <= row < len(self._shown) else None

    def _refresh(self) -> None:
        """Show what there is now; only cells that changed are drawn again."""
        shown = [row for row in self._rows if self._filter.matches(row.fields)]
        shown.sort(key=SORTS[self._sort], reverse=self._is_reversed)
        keys = [row.name for row in shown]
        before, self._shown = [row.name for row in self._shown], shown
        if keys != before or not self._table.columns:
            self._rebuild(cursor=before)
        else:
            for place, row in enumerate(shown):
                self._update(place, row)
        self._say_how_many()
        self._show_hint()

    def _rebuild(self, *, cursor: list[str] | None = None) -> None:
        table = self._table
        at = table.cursor_row
        names = [row.name for row in self._shown] if cursor is None else cursor
        name = names[at] if 0 <= at < len(names) else None
        table.clear(columns=True)
        self._cells = {row.name: self._cells_of(row) for row in self._shown}
        for place, title in enumerate(self._columns()):
            widths = [cells[place].cell_len for cells in self._cells.values()]
            least = LEAST_WIDTHS.get(title, len(title))
            table.add_column(title, key=title, width=max([least, *widths]))
        for row in self._shown:
            table.add_row(*self._cells[row.name], key=row.name)
        places = [row.name for row in self._shown]
        if name in places:
            table.move_cursor(row=places.index(name))

    def _update(self, place: int, row: RunRow) -> None:
        new, old = self._cells_of(row), self._cells[row.name]
        self._cells[row.name] = new
        for column, (cell, was) in enumerate(zip(new, old, strict=True)):
            if cell != was:
                self._table.update_cell_at(Coordinate(place, column), cell, update_width=True)

    def _columns(self) -> list[str]:
        some = ["", "name", "status", "round", "stage", "reward", "change"]
        return [*some, "rewards", "loss", "started"] if self._is_wide else some

    @property
    def _is_wide(self) -> bool:
        return self.size.width >= WIDE

    def _cells_of(self, row: RunRow) -> list[Text]:
        is_ascii = self.halos.options.is_ascii
        glyph = (ASCII_GLYPHS if is_ascii else GLYPHS).get(row.status, " ")
        if row.status == "unreadable":
            texts = [self._mark(row), visible(row.name), f"{glyph} {row.status}"]
            texts += [ABSENT] * (len(self._columns()) - len(texts))
            return [Text(text, no_wrap=True) for text in texts]
        texts = [
            self._mark(row),
            visible(row.name),
            f"{glyph} {row.status}",
            f"{row.round}/{row.num_rounds}" if row.num_rounds else str(row.round),
            row.stage or ("waiting" if row.problem and row.status == "running" else ABSENT),
            number(row.reward),
            signed(row.change),
        ]
        if self._is_wide:
            texts += [
                sparkline(row.rewards, SPARKLINE_WIDTH, ascii=is_ascii),
                visible(row.loss),
                date_time(row.created_t),
            ]
        return [Text(text, no_wrap=True) for text in texts]

    def _mark(self, row: RunRow) -> str:
        return "*" if row.name in self._selected else " "

    def _say_how_many(self) -> None:
        parts = [plural(len(self._shown), "run")]
        if len(self._shown) < len(self._rows):
            parts[0] += f" of {len(self._rows)}"
        chosen = sum(row.name in self._selected for row in self._shown)
        if chosen:
            parts.append(f"{chosen} selected")
        parts.append(f"by {self._sort}{', reversed' if self._is_reversed else ''}")
        if self.halos.options.read_only:
            parts.append("read-only")
        self._say("  ".join(parts))

    def _say(self, text: str) -> None:
        self.query_one("#title", Static).update(f"halos-tui  {text}")

    def _show_hint(self) -> None:
        root = visible(str(self.halos.options.runs_root))
        hint = self.query_one("#empty", Static)
        hint.display = self._has_read and not self._shown
        self._table.display = not hint.display
        if not self._rows:
            hint.update(f"No runs in {root}.\n\nn sets one up; halos-tui demo starts a small one.")
        else:
            hint.update("No run fits the filter. Escape takes it away.")

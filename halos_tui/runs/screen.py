"""This screen shows all runs: it filters, sorts and selects them, and opens one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from halos_backend.errors import UsageError
from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Input

from halos_tui.actions import ScreenName
from halos_tui.commands import as_called
from halos_tui.control.actions import RunActions
from halos_tui.control.offers import SeenRun
from halos_tui.feed import FeedFailed, Updated
from halos_tui.formatting import plural
from halos_tui.keymap import keys_of
from halos_tui.runs.columns import SORTS, by_group, group_of, in_order
from halos_tui.runs.comparison import Comparison
from halos_tui.runs.filter import RunFilter, parse_filter
from halos_tui.runs.preview import MIN_HEIGHT, PreviewPane
from halos_tui.runs.preview_reader import Preview
from halos_tui.runs.reader import RunRow, RunsReader
from halos_tui.runs.run_list import RunList, RunListView
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.panel import Line, TextLines, beside, joined

INTERVAL_S = 0.5
GROUPED_SORT = "started"
"""In this order runs are grouped by status; by another column the best of all stands first."""
BAD = ("failed", "lost", "stalled", "unreadable")


class RunsScreen(RunActions):
    """This is the first screen. Selected runs are marked; without any, actions take the cursor's
    run.
    """

    NAME: ClassVar[ScreenName] = "runs"
    IS_REDUCED: ClassVar[bool] = True
    TITLES: ClassVar[Mapping[str, str]] = {"runs": "runs"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {
        "runs": ("open", "sort"),
        "preview": ("metrics", "preview"),
    }
    DEFAULT_CSS = """
    RunsScreen {
        #title, #about { height: 1; }
        #filter { height: 1; border: none; padding: 0; display: none; }
        #body, #runs { width: 1fr; height: 1fr; }
        #body.-beside { layout: horizontal; }
        &.-narrow #preview, &.-short #preview { border-top: solid $border-blurred; }
        #preview .framed { border: none; border-top: solid $border-blurred; padding: 0; }
        &.-ascii #preview .framed { border-top: ascii $border-blurred; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[RunRow, ...] | None = None
        self._selected: frozenset[str] = frozenset()
        self._filter = RunFilter()
        self._filter_problem = ""
        self._read_problem = ""
        self._sort = GROUPED_SORT
        self._is_reversed = False

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TextLines(is_ascii=is_ascii, id="title")
        yield Input(
            placeholder="words, status:paused, loss:kto, train.lr>=1e-6, -name:test", id="filter"
        )
        with Container(id="body"):
            yield RunList(is_ascii=is_ascii, id="runs")
            yield PreviewPane(is_ascii=is_ascii, id="preview")
        yield TextLines(is_ascii=is_ascii, id="about")
        yield Footer(is_ascii=is_ascii)

    def on_mount(self) -> None:
        self._list.focus()
        self._say_how_many()
        reader = RunsReader(self.halos.options.runs_root, in_keys=self.wording())
        self.follow(reader.read, interval_s=INTERVAL_S)
        if not self.halos.options.read_only:
            self._preview.reader.keys = keys_of("runs", self.halos.config.keys)
        self._preview.reader.in_keys = self.wording()
        self._preview.feed = self.follow(self._preview.reader.read, interval_s=INTERVAL_S)

    def on_resize(self) -> None:
        self._say_how_many()
        self._place_preview()

    def on_updated(self, message: Updated[tuple[RunRow, ...] | Preview | Comparison]) -> None:
        if not isinstance(message.view, tuple):
            self._preview.show(message.view)
            return
        self._rows = message.view
        self._read_problem = ""
        self._selected &= {row.name for row in message.view}
        self._show()

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        self._read_problem = message.problem
        self._say_how_many()

    def selected_runs(self) -> list[RunDir]:
        """Returns the runs that are selected and shown, else the one at the cursor."""
        return [row.run_dir for row in self._selected_rows()]

    def seen_runs(self) -> list[SeenRun] | None:
        if self._rows is None:
            return None
        return [
            SeenRun(row.run_dir, None if row.status == "unreadable" else row.status, row.standing)
            for row in self._selected_rows()
        ]

    def first_actions(self) -> Sequence[str]:
        return ("open", *super().first_actions())

    def _selected_rows(self) -> tuple[RunRow, ...]:
        at_cursor = self._list.at_cursor
        return self._chosen() or ((at_cursor,) if at_cursor else ())

    @on(RunList.Chosen)
    def action_open(self) -> None:
        if (row := self._list.at_cursor) is None:
            return
        if row.status == "unreadable":
            self.notify(row.problem, severity="error", markup=False)
        else:
            self.halos.open_run(row.run_dir)

    def action_select(self) -> None:
        if (row := self._list.at_cursor) is not None:
            self._selected ^= {row.name}
            self._show()
            self._list.action_move(1)

    def action_select_all(self) -> None:
        shown = frozenset(row.name for row in self._list.shown.rows) if self._list.shown else set()
        self._selected = frozenset() if shown <= self._selected else self._selected | shown
        self._show()

    def action_sort(self) -> None:
        names = list(SORTS)
        self._sort = names[(names.index(self._sort) + 1) % len(names)]
        self._show()

    def action_reverse(self) -> None:
        self._is_reversed = not self._is_reversed
        self._show()

    @on(RunList.HeaderClicked)
    def _sort_by(self, message: RunList.HeaderClicked) -> None:
        self._is_reversed = message.column == self._sort and not self._is_reversed
        self._sort = message.column
        self._show()

    def action_preview(self) -> None:
        """Shows the run at the cursor, or does so no longer."""
        if self.size.height < MIN_HEIGHT:
            text = f"the preview needs a terminal of {MIN_HEIGHT} lines"
            self.notify(text, severity="warning", markup=False)
            return
        self._preview.wants = self._preview.place is None
        self._place_preview()

    def action_search(self) -> None:
        self._input.display = True
        self._input.focus()

    def action_back(self) -> None:
        """Leaves the filter, which then is empty; or leaves the selection."""
        if self._input.display:
            self._input.value = ""
            self._close_filter()
        elif self._selected:
            self._selected = frozenset()
            self._show()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, message: Input.Changed) -> None:
        try:
            self._filter = parse_filter(message.value)
            self._filter_problem = ""
        except UsageError as error:
            self._filter_problem = str(error)
        self._show()

    @on(Input.Submitted, "#filter")
    def _close_filter(self) -> None:
        """Goes back to the list; a filter that is not empty stays in sight."""
        self._input.display = bool(self._input.value)
        self._list.focus()

    @on(RunList.Moved)
    def _say_what_is_at_cursor(self) -> None:
        self.mind_actions()
        row = self._list.at_cursor
        about = () if row is None else _about(row)
        self.query_one("#about", TextLines).show((about,))
        self._preview.turn_to(self._previewed())

    def _chosen(self) -> tuple[RunRow, ...]:
        shown = self._list.shown.rows if self._selected and self._list.shown else ()
        return tuple(row for row in shown if row.name in self._selected)

    def _previewed(self) -> tuple[RunRow, ...]:
        """Returns the selected runs where these are several, else the one at the cursor."""
        chosen, at_cursor = self._chosen(), self._list.at_cursor
        return chosen if len(chosen) > 1 else (at_cursor,) if at_cursor else ()

    def _place_preview(self) -> None:
        self._preview.lay_out(self.size)
        self.query_one("#body").set_class(self._preview.place == "beside", "-beside")
        self._say_what_is_at_cursor()

    @property
    def _list(self) -> RunList:
        return self.query_one(RunList)

    @property
    def _preview(self) -> PreviewPane:
        return self.query_one(PreviewPane)

    @property
    def _input(self) -> Input:
        return self.query_one("#filter", Input)

    def _show(self) -> None:
        """Shows what there is now; only cells that changed are drawn again."""
        if self._rows is None:
            return
        shown = [row for row in self._rows if self._filter.matches(row.value_of)]
        rows = in_order(shown, self._sort, is_reversed=self._is_reversed)
        is_grouped = self._sort == GROUPED_SORT and len(set(map(group_of, rows))) > 1
        self._list.show(
            RunListView(
                by_group(rows) if is_grouped else rows,
                self._selected,
                self._sort,
                self._is_reversed,
                is_grouped,
                () if rows else self._why_empty(self._rows),
            )
        )
        self._say_how_many()
        self._say_what_is_at_cursor()

    def _say_how_many(self) -> None:
        if problem := self._filter_problem or self._read_problem:
            self.query_one("#title", TextLines).show((((problem, "bad"),),))
            return
        title: list[tuple[str, str]] = [("halos-tui", "title"), ("  ", "")]
        shown = self._list.shown
        if self._rows is None or shown is None:
            title.append(("reading ...", "muted"))
        else:
            of = f" of {len(self._rows)}" if len(shown.rows) < len(self._rows) else ""
            title.append((f"{plural(len(shown.rows), 'run')}{of}", ""))
            if self._selected:
                title.append((f"  {len(self._selected)} selected", "accent"))
        order = f"by {self._sort}{', reversed' if self._is_reversed else ''}"
        if self.halos.options.read_only:
            order = f"read-only  {order}"
        self.query_one("#title", TextLines).show(
            (beside(title, [(order, "muted")], self.size.width),)
        )

    def _why_empty(self, rows: tuple[RunRow, ...]) -> tuple[str, ...]:
        """Says why the list is empty, and what to do about it."""
        if rows:
            unknown = [
                path
                for path in self._filter.settings
                if all(row.value_of(path) is None for row in rows)
            ]
            why = f"No run has a setting {unknown[0]}." if unknown else "No run fits the filter."
            return why, "Escape takes the filter away."
        new = "" if self.halos.options.read_only else "n sets up a new one; "
        demo = as_called("halos-tui demo starts a small one that needs no GPU.")
        return f"No runs in {self.halos.options.runs_root}.", f"{new}{demo}"


def _about(row: RunRow) -> Line:
    """Says why it stopped or what is in its way, and a person's own words; else where it is."""
    style = "bad" if row.status in BAD else "" if row.status == "completed" else "warning"
    about = joined(
        [
            [(row.problem, style)],
            [(row.words_problem, "warning")],
            [(" ".join(row.words.tags), "accent")],
            [(row.words.note, "")],
        ]
    )
    return about or [(str(row.run_dir.path), "muted")]

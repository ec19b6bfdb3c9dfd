"""The metrics of one run or several as a grid of charts: chosen, overlaid, read off, taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from halos_backend.errors import HalosError, UsageError
from halos_backend.store.run_dir import RunDir, find_run
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from halos_tui.actions import ScreenName
from halos_tui.background import in_background
from halos_tui.feed import Feed
from halos_tui.formatting import visible
from halos_tui.messages import FeedFailed, Updated
from halos_tui.metrics.reader import MetricsReader
from halos_tui.metrics.title import title_of
from halos_tui.metrics.view import MOST_LINES, WEIGHTS, MetricsView, Wish
from halos_tui.metrics.writing import as_csv, as_svg
from halos_tui.screens.writing_out import WritingOut
from halos_tui.search_term import read_term
from halos_tui.widgets.ask_line import AskLine
from halos_tui.widgets.chart_grid import ChartGrid
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.title_line import TitleLine

INTERVAL_S = 1.0
ZOOM = 2.0


class MetricsScreen(WritingOut):
    """By round, or by step with rounds over each other. All charts share cursor, zoom and scale."""

    NAME: ClassVar[ScreenName] = "metrics"
    BINDINGS: ClassVar[list[BindingType]]
    DEFAULT_CSS = """
    MetricsScreen { #charts { height: 1fr; } }
    """

    def __init__(self, run_dirs: Sequence[RunDir]) -> None:
        super().__init__()
        self.runs = list(run_dirs[:MOST_LINES])
        self.view: MetricsView | None = None
        self._num_left_out = len(run_dirs) - len(self.runs)
        self._wish = Wish()
        self._reader = MetricsReader(self.runs, self._wish)
        self._feed: Feed[MetricsView] | None = None
        self._problem = ""
        self._path = ""

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TitleLine(is_ascii=is_ascii, id="title")
        yield ChartGrid(is_ascii=is_ascii, id="charts")
        yield AskLine()
        yield Footer(is_ascii=is_ascii)

    def on_mount(self) -> None:
        self._charts.focus()
        self._say()
        self._feed = self.follow(self._reader.read, interval_s=INTERVAL_S)
        if self._num_left_out:
            self.notify(
                f"{MOST_LINES} runs can be told apart; {self._num_left_out} more are left out",
                severity="warning",
                markup=False,
            )

    def on_updated(self, message: Updated[MetricsView]) -> None:
        before, self.view, self._problem = self.view, message.view, ""
        if before is not None and before.kind != message.view.kind:
            self._charts.configure(cursor=None, window=(None, None))
        self._charts.show(message.view.charts)
        self._say()
        message.is_drawn.set()
        if message.view.wish != self._wish and self._feed is not None:
            self._feed.hurry()

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Besides the notice that every screen gives: say it for as long as it is so."""
        self._problem = message.problem
        self._say()

    @on(ChartGrid.Turned)
    def _turned(self) -> None:
        self._say()

    def action_by(self) -> None:
        """By round, or by step."""
        if self.view is not None:
            self._ask(kind="step" if self.view.kind == "round" else "round")

    def action_previous(self) -> None:
        self._turn(-1)

    def action_next(self) -> None:
        self._turn(1)

    def action_overlay(self) -> None:
        """One more round under those that are shown."""
        self._overlay(1)

    def action_overlay_fewer(self) -> None:
        self._overlay(-1)

    def action_zoom_in(self) -> None:
        self._charts.zoom_by(ZOOM)

    def action_zoom_out(self) -> None:
        self._charts.zoom_by(1 / ZOOM)

    def action_zoom_whole(self) -> None:
        self._charts.zoom()

    def action_log_scale(self) -> None:
        self._charts.configure(is_log=not self._charts.look.is_log)
        self._say()

    def action_smooth(self) -> None:
        """More, and after the most not at all."""
        self._ask(weight=WEIGHTS[(WEIGHTS.index(self._wish.weight) + 1) % len(WEIGHTS)])

    def action_search(self) -> None:
        term = self._wish.term
        text = "" if term is None else term.text
        self.bar.ask("filter", "charts", text=text, hint="a pattern: reward|kl, ^train, time$")

    def action_pin(self) -> None:
        self.bar.ask("pin", "run to add, or to take away", hint="a run's name")

    def action_write(self) -> None:
        if self.content() is None:
            self.notify("there is nothing to write yet", severity="warning", markup=False)
            return
        self.bar.ask("write", "write to", hint="a new file: .csv has the values, .svg the charts")

    def action_back(self) -> None:
        """Out of the question, the cursor, the zoom, the filter; then to the screen before."""
        look = self._charts.look
        if self.bar.display:
            self.close_bar(forget=self.bar.purpose == "filter")
        elif look.cursor is not None:
            self._charts.move_cursor(None)
        elif look.window != (None, None):
            self._charts.zoom()
        elif self._wish.term is not None:
            self._ask(term=None)
        else:
            super().action_back()

    @on(AskLine.Changed)
    def _typed(self, message: AskLine.Changed) -> None:
        self.bar.refuse("")
        if message.purpose == "filter":
            self._filter(message.text)

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        match message.purpose:
            case "filter":
                if self._filter(message.text):
                    self.close_bar()
            case "pin":
                self.run_worker(self._pin(message.text.strip()), group="pin", exclusive=True)
            case _:
                self._path = message.text
                self.write(message.text, overwrite=message.purpose == "overwrite")

    def content(self) -> Callable[[], str] | None:
        view = self.view
        return None if view is None or not view.charts else partial(self._written, view, self._path)

    def close_bar(self, *, forget: bool = False) -> None:
        self.bar.close()
        self._charts.focus()
        if forget and self._wish.term is not None:
            self._ask(term=None)

    def _written(self, view: MetricsView, path: str) -> str:
        """In a thread. Raises UsageError for a path that does not say how."""
        match Path(path).suffix.lower():
            case ".csv":
                return as_csv(view)
            case ".svg":
                look = self._charts.look
                return as_svg(view, window=look.window, is_log=look.is_log)
        raise UsageError("end it in .csv or .svg")

    async def _pin(self, name: str) -> None:
        """Show that run too, or no longer."""
        try:
            run = await in_background(partial(find_run, self.halos.options.runs_root, name))
        except HalosError as error:
            self.bar.refuse(visible(str(error)))
            return
        runs = [known for known in self.runs if known.path.resolve() != run.path.resolve()]
        if len(runs) == len(self.runs):
            runs.append(run)
        if not 1 <= len(runs) <= MOST_LINES:
            self.bar.refuse(f"1 to {MOST_LINES} runs can be told apart")
            return
        self.runs = runs
        self._reader.pin(runs)
        self.close_bar()
        self._ask()

    def _turn(self, by: int) -> None:
        """To an older or a newer round; by step."""
        view = self.view
        if view is not None and view.rounds:
            newest = max(1, view.rounds[-1] + by)
            self._ask(kind="step", newest=None if newest >= view.last else newest)

    def _overlay(self, by: int) -> None:
        most = max(1, MOST_LINES // len(self.runs))
        num = max(1, min(self._wish.num_overlaid + by, most))
        self._ask(kind="step", num_overlaid=num)

    def _filter(self, text: str) -> bool:
        """False where the text is no pattern; the one before stays then."""
        try:
            term = read_term(f"/{text}")
        except UsageError as error:
            self.bar.refuse(str(error))
            return False
        if term != self._wish.term:
            self._ask(term=term)
        return True

    def _ask(self, **changes: Any) -> None:
        """Show something else."""
        self._wish = replace(self._wish, **changes)
        self._reader.ask(self._wish)
        if self._feed is not None:
            self._feed.hurry()
        self._say()

    def _say(self) -> None:
        charts = self._charts
        title = title_of(
            self.runs,
            self.view,
            self._wish,
            is_log=charts.look.is_log,
            hidden=charts.num_hidden,
            problem=self._problem,
        )
        self.query_one(TitleLine).show(title)

    @property
    def _charts(self) -> ChartGrid:
        return self.query_one(ChartGrid)

"""This screen shows the metrics of runs as a grid of charts: chosen, overlaid, read off, exported.

Its title says which runs and rounds it shows, and how they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from halos_backend.errors import HalosError, UsageError
from halos_backend.store.run_dir import RunDir, find_run
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from halos_tui.actions import ScreenName
from halos_tui.feed import FeedFailed, Updated, in_background
from halos_tui.formatting import plural, visible
from halos_tui.metrics.chart_grid import ChartGrid
from halos_tui.metrics.export import as_csv, as_svg
from halos_tui.metrics.reader import MetricsReader
from halos_tui.metrics.view import MOST_LINES, WEIGHTS, MetricsQuery, MetricsView
from halos_tui.screens.asking import Asked, Filter, MakeText, Writing
from halos_tui.screens.base import HalosScreen
from halos_tui.search_term import SearchTerm, read_term
from halos_tui.widgets.ask_line import AskLine, Question
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.title_line import Title, TitleLine

INTERVAL_S = 1.0
ZOOM = 2.0


class MetricsScreen(HalosScreen):
    """It shows figures by round, or by step with rounds over each other; all charts zoom
    together.
    """

    NAME: ClassVar[ScreenName] = "metrics"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"charts": "charts"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {"charts": ("overlay", "smooth")}
    DEFAULT_CSS = """
    MetricsScreen { #charts { height: 1fr; } }
    """

    def __init__(self, run_dirs: Sequence[RunDir]) -> None:
        super().__init__()
        self.runs = list(run_dirs[:MOST_LINES])
        self.view: MetricsView | None = None
        self._num_left_out = len(run_dirs) - len(self.runs)
        self._reader = MetricsReader(self.runs, MetricsQuery())
        self.asked = Asked(MetricsQuery(), self._reader.ask)
        self._filter = Filter(
            self,
            read=read_term,
            term=lambda: self.asked.query.term,
            use=self._use_filter,
            leave=self.focus_main,
            question="charts",
            hint="a pattern: reward|kl, ^train, time$",
            is_pattern=True,
        )
        self._writing = Writing(
            self,
            content=self.content,
            leave=self.focus_main,
            hint="a new file: .csv has the values, .svg the charts",
        )
        self._pinning = Question(
            "run to add, or to take away",
            "a run's name",
            typed=lambda _text: self._bar.refuse(""),
            answered=self._pin,
        )
        self._problem = ""

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TitleLine(is_ascii=is_ascii, id="title")
        yield ChartGrid(is_ascii=is_ascii, id="charts")
        yield AskLine()
        yield Footer(is_ascii=is_ascii)

    def on_mount(self) -> None:
        self._charts.focus()
        self.say()
        self.asked.answered_by(self.follow(self._reader.read, interval_s=INTERVAL_S))
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
        self.say()

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        self._problem = message.problem
        self.say()

    @on(ChartGrid.Turned)
    def _turned(self) -> None:
        self.say()

    def action_by(self) -> None:
        """Switches between rounds and steps."""
        if self.view is not None:
            kind = self.asked.query.kind or self.view.kind
            self.ask_for(replace(self.asked.query, kind="step" if kind == "round" else "round"))

    def action_previous(self) -> None:
        self._turn(-1)

    def action_next(self) -> None:
        self._turn(1)

    def action_overlay(self) -> None:
        """Shows one more round under those that are shown."""
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
        self.say()

    def action_smooth(self) -> None:
        """Smooths more, and after the most not at all."""
        self.ask_for(
            replace(
                self.asked.query,
                weight=WEIGHTS[(WEIGHTS.index(self.asked.query.weight) + 1) % len(WEIGHTS)],
            )
        )

    def action_pin(self) -> None:
        self._bar.ask(self._pinning)

    def action_search(self) -> None:
        self._filter.ask()

    def action_write(self) -> None:
        self._writing.ask()

    def action_back(self) -> None:
        """Leaves the question, the cursor, the zoom, the filter; then goes to the screen before."""
        look = self._charts.look
        if self._bar.display:
            self._filter.close_bar()
        elif look.cursor is not None:
            self._charts.move_cursor(None)
        elif look.window != (None, None):
            self._charts.zoom()
        elif self.asked.query.term is not None:
            self.ask_for(replace(self.asked.query, term=None))
        else:
            super().action_back()

    def ask_for(self, query: MetricsQuery) -> None:
        """Shows something else."""
        self.asked.ask(query)
        self.say()

    def _use_filter(self, term: SearchTerm | None) -> None:
        self.ask_for(replace(self.asked.query, term=term))

    def focus_main(self) -> None:
        self.set_focus(self._charts)

    def content(self) -> MakeText | None:
        """Returns what writes the values or the charts, where there are any."""
        view = self.view
        return None if view is None or not view.charts else partial(self._written, view)

    def _written(self, view: MetricsView, path: Path) -> str:
        """Writes the file, in a thread. Raises UsageError for a path that does not say the
        format.
        """
        match path.suffix.lower():
            case ".csv":
                return as_csv(view)
            case ".svg":
                look = self._charts.look
                return as_svg(view, window=look.window, is_log=look.is_log)
        raise UsageError("end it in .csv or .svg")

    def _pin(self, text: str) -> None:
        self.run_worker(self._pin_run(text.strip()), group="pin", exclusive=True)

    async def _pin_run(self, name: str) -> None:
        """Shows that run too, or no longer."""
        try:
            run = await in_background(partial(find_run, self.halos.options.runs_root, name))
        except HalosError as error:
            self._bar.refuse(visible(str(error)))
            return
        runs = [known for known in self.runs if known.path.resolve() != run.path.resolve()]
        if len(runs) == len(self.runs):
            runs.append(run)
        if not 1 <= len(runs) <= MOST_LINES:
            self._bar.refuse(f"1 to {MOST_LINES} runs can be told apart")
            return
        self.runs = runs
        self._reader.pin(runs)
        self._bar.close()
        self.focus_main()
        self.ask_for(self.asked.query)

    def _turn(self, by: int) -> None:
        """Goes to an older or a newer round; by step."""
        view = self.view
        if view is not None and view.rounds:
            newest = max(1, (self.asked.query.newest or view.rounds[-1]) + by)
            self.ask_for(
                replace(
                    self.asked.query, kind="step", newest=None if newest >= view.last else newest
                )
            )

    def _overlay(self, by: int) -> None:
        most = max(1, MOST_LINES // len(self.runs))
        num = max(1, min(self.asked.query.num_overlaid + by, most))
        self.ask_for(replace(self.asked.query, kind="step", num_overlaid=num))

    def say(self) -> None:
        charts = self._charts
        title = title_of(
            self.runs,
            self.view,
            self.asked.query,
            is_log=charts.look.is_log,
            hidden=charts.num_hidden,
            problem=self._problem,
        )
        self.query_one(TitleLine).show(title)

    @property
    def _bar(self) -> AskLine:
        return self.query_one(AskLine)

    @property
    def _charts(self) -> ChartGrid:
        return self.query_one(ChartGrid)


def title_of(
    runs: Sequence[RunDir],
    view: MetricsView | None,
    query: MetricsQuery,
    *,
    is_log: bool,
    hidden: tuple[int, int],
    problem: str,
) -> Title:
    """Returns the title; `hidden` are the charts above and below those in sight."""
    names = ", ".join(run.name for run in runs)
    for run in runs:
        problem = problem.replace(visible(str(run.path)), visible(run.name))
    about = [(names, "title")]
    if view is None:
        return Title((*about, ("" if problem else "  reading ...", "muted")), problem=problem)
    about.append((f"  {_what(view)}", "accent"))
    about += [(f"  {text}", "warning") for text in _unusual(query, is_log=is_log)]
    if not view.charts:
        about.append((f"  {_nothing(view)}", "warning"))
    return Title(tuple(about), tuple((text, "muted") for text in _more(view, hidden)), problem)


def _what(view: MetricsView) -> str:
    if view.kind == "round":
        return "by round"
    if not view.rounds:
        return "by step"
    first, last = view.rounds[0], view.rounds[-1]
    return f"by step, round{f' {last}' if first == last else f's {first} to {last}'}"


def _unusual(query: MetricsQuery, *, is_log: bool) -> list[str]:
    return [
        *(["log"] if is_log else []),
        *([f"smoothed {query.weight:g}"] if query.weight else []),
        *([f"filter {query.term.text}"] if query.term else []),
    ]


def _nothing(view: MetricsView) -> str:
    """Says why there is no chart."""
    if view.num_charts:
        return "nothing fits the filter"
    return "no round has finished a stage yet" if view.kind == "round" else "nothing is logged yet"


def _more(view: MetricsView, hidden: tuple[int, int]) -> list[str]:
    above, below = hidden
    return [
        plural(len(view.charts), "chart"),
        *([f"{above} above"] if above else []),
        *([f"{below} below"] if below else []),
        *([f"{view.num_others} by {_other(view)}"] if view.num_others else []),
    ]


def _other(view: MetricsView) -> str:
    return "step" if view.kind == "round" else "round"

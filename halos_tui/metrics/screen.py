"""This screen shows the metrics of runs as a grid of charts: chosen, overlaid, read off, exported.

Its title says which runs and rounds it shows, and how they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from halos_backend.errors import UsageError
from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.keys import format_key

from halos_tui.actions import ScreenName
from halos_tui.feed import FeedFailed, Updated, in_background
from halos_tui.formatting import visible
from halos_tui.keymap import keys_of
from halos_tui.metrics.chart_grid import ChartGrid
from halos_tui.metrics.export import as_csv, as_svg
from halos_tui.metrics.reader import MetricsReader
from halos_tui.metrics.title import note_of, title_of
from halos_tui.metrics.view import MOST_LINES, WEIGHTS, MetricLine, MetricsQuery, MetricsView
from halos_tui.runs.reader import RunRow, RunsReader
from halos_tui.screens.asking import Asked, Filter, MakeText, Writing
from halos_tui.screens.base import HalosScreen
from halos_tui.screens.dialogs import Pick, PickDialog
from halos_tui.search_term import SearchTerm, read_term
from halos_tui.terminal.key_order import keys_held
from halos_tui.tracking.rounds import describe_reward
from halos_tui.widgets.ask_line import AskLine
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.panel import TextLines
from halos_tui.widgets.title_line import TitleLine

INTERVAL_S = 1.0
ZOOM = 2.0


OF_CHARTS = frozenset(
    {"write", "zoom_in", "zoom_out", "zoom_whole", "log_scale", "smooth", "open_round"}
)


class MetricsScreen(HalosScreen):
    """It shows figures by round, or by step with rounds over each other; all charts zoom
    together.
    """

    NAME: ClassVar[ScreenName] = "metrics"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"charts": "charts"}
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {"charts": ("overlay", "smooth")}
    DEFAULT_CSS = """
    MetricsScreen {
        #charts { height: 1fr; }
        #note { height: 1; display: none; }
    }
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
        self._problem = ""

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        yield TitleLine(is_ascii=is_ascii, id="title")
        yield ChartGrid(is_ascii=is_ascii, id="charts")
        yield TextLines(is_ascii=is_ascii, id="note")
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

    def on_resize(self) -> None:
        self.call_after_refresh(self.say)  # once it is known whether there is a border

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

    def why_not(self, action: str) -> str:
        view = self.view
        if view is None:
            return ""
        match action:
            case "previous" | "next" | "overlay" | "overlay_fewer" if view.last < 2:
                return "there is no other round yet"
            case "overlay_fewer" if self.asked.query.num_overlaid < 2:
                return "there is one round already"
            case _ if action in OF_CHARTS and not view.charts:
                return "there is no chart here"
            case "zoom_out" | "zoom_whole" if self._charts.look.window == (None, None):
                return "all of it is shown"
        return ""

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
        self.run_worker(self._pin(), group="dialog", exclusive=True)

    def action_search(self) -> None:
        """Asks for a pattern, over all charts; those that are found stay once it is answered."""
        self.ask_for(replace(self.asked.query, is_whole=True))
        self._filter.ask()

    @on(ChartGrid.Chosen)
    def action_open_round(self) -> None:
        """Opens the completions of the round at the cursor, or of the newest one."""
        if places := self._places():
            self.run_worker(self._open_round(places), group="dialog", exclusive=True)
        else:
            self.notify("there is no point at the cursor", severity="warning", markup=False)

    def action_write(self) -> None:
        self._writing.ask()

    def action_back(self) -> None:
        """Leaves the question, the cursor, the zoom, the filter; then goes to the screen before."""
        look = self._charts.look
        if self._bar.display:
            is_of_filter = self._filter.is_asked
            self._filter.close_bar()
            if is_of_filter:
                self._show_first_page()
        elif look.cursor is not None:
            self._charts.move_cursor(None)
        elif look.window != (None, None):
            self._charts.zoom()
        elif self.asked.query.is_whole:
            self._show_first_page()
        else:
            super().action_back()

    def ask_for(self, query: MetricsQuery) -> None:
        """Shows something else."""
        self.asked.ask(query)
        self.say()

    def _show_first_page(self) -> None:
        self.ask_for(replace(self.asked.query, term=None, is_whole=False))

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

    async def _pin(self) -> None:
        """Has a person choose a run, and shows that too, or no longer."""
        with keys_held(self.app):
            try:
                rows = await in_background(RunsReader(self.halos.options.runs_root).read)
            except OSError as error:
                self.notify(visible(str(error)), severity="error", markup=False)
                return
            run = await self.app.push_screen_wait(self._run_dialog(rows or ()))
            if run is not None:
                self._show_or_hide(run)

    def _run_dialog(self, rows: Sequence[RunRow]) -> PickDialog[RunDir]:
        known = {run.path.resolve() for run in self.runs}
        picks = [
            Pick(
                row.name,
                row.run_dir,
                about=_about(row),
                is_marked=row.run_dir.path.resolve() in known,
            )
            for row in rows
            if row.summary is not None
        ]
        return PickDialog(
            "Which run over these?",
            picks,
            hint="enter adds a run, or takes a marked one away",
            is_ascii=self.halos.options.is_ascii,
        )

    def _show_or_hide(self, run: RunDir) -> None:
        runs = [known for known in self.runs if known.path.resolve() != run.path.resolve()]
        if len(runs) == len(self.runs):
            runs.append(run)
        if not 1 <= len(runs) <= MOST_LINES:
            why = f"1 to {MOST_LINES} runs can be told apart"
            self.notify(why, severity="warning", markup=False)
            return
        self.runs = runs
        self._reader.pin(runs)
        self.ask_for(self.asked.query)

    def _places(self) -> list[tuple[RunDir, int]]:
        """Returns the runs and rounds that have a point at the cursor, the newest round first."""
        lines = [line for chart in self._charts.shown[:1] for line in chart.lines]
        cursor = self._charts.look.cursor
        found = {(line.run, round) for line in lines if (round := _round_at(line, cursor))}
        return [
            (run, round)
            for run in self.runs
            for name, round in sorted(found, reverse=True)
            if name == run.name
        ]

    async def _open_round(self, places: Sequence[tuple[RunDir, int]]) -> None:
        chosen: tuple[RunDir, int] | None = places[0]
        if len(places) > 1:
            picks = [Pick(run.name, (run, round), about=f"round {round}") for run, round in places]
            heading, is_ascii = "Whose completions?", self.halos.options.is_ascii
            chosen = await self.app.push_screen_wait(PickDialog(heading, picks, is_ascii=is_ascii))
        if chosen is not None:
            self.halos.open_completions(chosen[0], round=chosen[1])

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
        search = keys_of(self.NAME, self.halos.config.keys)["search"].partition(",")[0]
        note, text = self.query_one("#note", TextLines), note_of(self.view, key=format_key(search))
        note.show((((text, "muted"),),))
        note.display = not charts.note(text) and bool(text)
        title = title_of(
            self.runs,
            self.view,
            self.asked.query,
            is_log=charts.look.is_log,
            hidden=charts.num_hidden,
            problem=self._problem,
            width=self.size.width,
            is_ascii=self.halos.options.is_ascii,
        )
        self.query_one(TitleLine).show(title)
        self.mind_actions()

    @property
    def _bar(self) -> AskLine:
        return self.query_one(AskLine)

    @property
    def _charts(self) -> ChartGrid:
        return self.query_one(ChartGrid)


def _about(row: RunRow) -> str:
    """Says of a run what tells it from others."""
    reward = row.summary.reward if row.summary else None
    worth = f"reward {describe_reward(reward)}" if reward else ""
    parts = (row.words.title, row.status, row.loss, f"round {row.round}", worth)
    return "  ".join(filter(None, parts))


def _round_at(line: MetricLine, x: float | None) -> int | None:
    """Returns the round of the line's point at x, or of its last one; None where it has none."""
    if not len(line.xs) or (x is not None and not line.xs[0] <= x <= line.xs[-1]):
        return None
    return line.round or int(line.xs[-1] if x is None else x)

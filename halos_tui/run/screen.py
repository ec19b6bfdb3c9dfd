"""This screen shows one run: how far it is, whether the reward rises, what is in the way.

Everything is read and counted by `RunReader` in the feed's thread; panels draw what arrives.
Those of warnings and of the log are here.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar, cast

from halos_backend.store.run_dir import RunDir
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.geometry import Region
from textual.widget import Widget
from textual.widgets import Input

from halos_tui.actions import ScreenName
from halos_tui.control.actions import RunActions
from halos_tui.feed import Feed, FeedFailed, Updated
from halos_tui.formatting import visible
from halos_tui.keymap import keys_of
from halos_tui.run.chart_panels import RewardChart, RewardDistribution, TrainCurves
from halos_tui.run.layout import Needs, PanelName, arrange
from halos_tui.run.machine_panel import MachinePanel
from halos_tui.run.reader import RunReader
from halos_tui.run.round_table import RoundTable
from halos_tui.run.run_header import RunHeader, num_lines
from halos_tui.run.says_panel import SaysPanel
from halos_tui.run.stage_progress import StageProgress
from halos_tui.run.view import HeaderView, LogView, Notice, RunView
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.panel import Line, Panel

AT_WORK_AS_SEEN = frozenset({"running", "pausing", "aborting", "stalled", "lost"})
"""Between two stages of such a run nothing should move."""

Notices = tuple[Notice, ...]
MOST_LINES_EACH = 3
MARKS = {"bad": "!! ", "warning": "! ", "muted": "- "}


class RunScreen(RunActions):
    """The screen is about `run_dir`. The cursor of the table chooses whose details are shown."""

    NAME: ClassVar[ScreenName] = "run"
    IS_REDUCED: ClassVar[bool] = True
    BINDINGS: ClassVar[list[BindingType]]
    DEFAULT_CSS = """
    RunScreen {
        #panels { width: 1fr; height: 1fr; overflow: hidden; }
        #panels > * { position: absolute; display: none; }
        #jump { height: 1; border: none; padding: 0; display: none; }
    }
    """

    def __init__(self, run_dir: RunDir) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.view: RunView | None = None
        self._reader = RunReader(run_dir)
        self._feed: Feed[RunView] | None = None
        self._needs = Needs()

    def compose(self) -> ComposeResult:
        is_ascii = self.halos.options.is_ascii
        with Container(id="panels"):
            yield RunHeader(is_ascii=is_ascii, id="header")
            yield StageProgress(is_ascii=is_ascii, id="stage")
            yield RoundTable(is_ascii=is_ascii, id="rounds")
            yield SaysPanel(is_ascii=is_ascii, id="says")
            yield RewardChart(is_ascii=is_ascii, id="rewards")
            yield RewardDistribution(is_ascii=is_ascii, id="distribution")
            yield TrainCurves(is_ascii=is_ascii, id="curves")
            yield MachinePanel(is_ascii=is_ascii, id="machine")
            yield NoticesPanel(is_ascii=is_ascii, id="notices")
            yield LogTail(is_ascii=is_ascii, id="log")
        yield Input(placeholder="jump to round", type="integer", id="jump")
        yield Footer(is_ascii=is_ascii)

    def on_mount(self) -> None:
        self.query_one(RunHeader).show(HeaderView(self.run_dir.name))
        self.query_one(RoundTable).focus()
        if not self.halos.options.read_only:
            self._reader.keys = keys_of("run", self.halos.config.keys)
        self._feed = self.follow(self._reader.read)

    def on_resize(self) -> None:
        self._place()

    async def on_updated(self, message: Updated[RunView]) -> None:
        """Draws a panel at a time, so that keys have their turn in between."""
        self.view = message.view
        for show in [*self._shows(message.view)]:  # listed now: the screen may close meanwhile
            show()
            await asyncio.sleep(0)

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        header = self.view.header if self.view else HeaderView(self.run_dir.name)
        header = replace(header, problem=message.problem)
        self._make_room(header, self._needs)
        self.query_one(RunHeader).show(header)

    @on(RoundTable.Moved)
    def _select_round(self) -> None:
        self._reader.select(self.selected_round)
        if self._feed is not None:
            self._feed.hurry()

    @property
    def selected_round(self) -> int | None:
        """Returns the round at the cursor; None where that is the newest."""
        return self.query_one(RoundTable).selected

    def selected_runs(self) -> list[RunDir]:
        """Returns what the actions of this screen are about."""
        return [self.run_dir]

    def action_next_curve(self) -> None:
        self.query_one(TrainCurves).show_next()

    def action_next_prompt(self) -> None:
        self._reader.take_next_prompt()
        if self._feed is not None:
            self._feed.hurry()

    def action_open_prompt(self) -> None:
        """Opens the completions at the prompt that is shown."""
        says = None if self.view is None else self.view.says
        if says is None:
            self.notify("nothing is scored yet", severity="warning", markup=False)
            return
        self.halos.open_completions(self.run_dir, round=says.round, prompt_id=says.prompt_id)

    def action_search(self) -> None:
        """Asks for a round to jump to."""
        jump = self.query_one("#jump", Input)
        jump.value = ""
        jump.display = True
        jump.focus()

    def action_back(self) -> None:
        if self.query_one("#jump", Input).display:
            self._close_jump()
        else:
            super().action_back()

    @on(Input.Submitted, "#jump")
    def _jump(self, message: Input.Submitted) -> None:
        if message.value.strip().isdecimal():
            self.query_one(RoundTable).move_to(int(message.value) - 1)
        self._close_jump()

    def _close_jump(self) -> None:
        self.query_one("#jump", Input).display = False
        self.query_one(RoundTable).focus()

    def action_completions(self) -> None:
        self.halos.open_completions(self.run_dir, round=self.selected_round)

    def action_logs(self) -> None:
        self.halos.open_logs(self.run_dir, round=self.selected_round)

    def _shows(self, view: RunView) -> Iterator[Callable[[], object]]:
        """Yields what draws the panels anew, once there is room for them."""
        is_at_work = view.header.status in AT_WORK_AS_SEEN
        num_devices = len(view.machine.gpus) + (view.machine.host is not None)
        needs = Needs(
            max(is_at_work, len(view.stages)),
            num_devices=num_devices,
            num_device_notes=sum(bool(gpu.others) for gpu in view.machine.gpus),
            has_notices=bool(view.notices),
        )
        yield partial(self._make_room, view.header, needs)
        yield partial(self.query_one(RunHeader).show, view.header)
        yield partial(self.query_one(StageProgress).show, view.stages)
        yield partial(self.query_one(RoundTable).show, view.rounds)
        yield partial(self.query_one(SaysPanel).show, view.says)
        yield partial(self.query_one(RewardChart).show, view.rewards)
        yield partial(self.query_one(RewardDistribution).show, view.distribution)
        yield partial(self.query_one(TrainCurves).show, view.curves)
        yield partial(self.query_one(MachinePanel).show, view.machine)
        yield partial(self.query_one(NoticesPanel).show, view.notices)
        yield partial(self.query_one(LogTail).show, view.log)

    def _make_room(self, header: HeaderView, needs: Needs) -> None:
        """Lays the panels out anew where they need it."""
        needs = replace(needs, num_header_lines=num_lines(header, self.size.width))
        if needs != self._needs:
            self._needs = needs
            self._place()

    def _place(self) -> None:
        """Lays the panels out for the size there is."""
        panels = self.query_one("#panels")
        footer = self.query_one(Footer)
        height = self.size.height - (1 if footer.display else 0)
        places = arrange(self.size.width, height, self._needs)
        for panel in panels.children:
            _put(panel, places.get(_name_of(panel)))


def _name_of(panel: Widget) -> PanelName:
    return cast("PanelName", panel.id)


def _put(panel: Widget, region: Region | None) -> None:
    panel.display = region is not None
    if region is not None:
        panel.styles.width, panel.styles.height = region.size
        panel.styles.offset = region.offset


class LogTail(Panel[LogView]):
    """It has a title where there are three lines or more."""

    def lines(self, shown: LogView, width: int, height: int) -> Iterator[Line]:
        del width
        if height > 2:
            yield [("log", "title"), (f"  {shown.title}" if shown.title else "", "muted")]
        room = height - (height > 2)
        if shown.problem:
            yield [(shown.problem, "warning")]
        if not shown.lines:
            what = f"{shown.title} has written nothing" if shown.title else "no stage has run yet"
            yield [(what, "muted")]
        for line in shown.lines[-room:] if room > 0 else ():
            yield [(line.expandtabs(4), "")]


class NoticesPanel(Panel[Notices]):
    """It has a title where there are three lines or more; on a single line it shows the first
    one.
    """

    def lines(self, shown: Notices, width: int, height: int) -> Iterator[Line]:
        if height <= 2:
            for notice in shown[:height]:
                left = len(shown) - height
                more = f"({left} more) " if left > 0 and notice is shown[height - 1] else ""
                yield [(f"{MARKS[notice.severity]}{more}{notice.text}", notice.severity)]
            return
        counted = f"  {len(shown)}" if len(shown) > 1 else ""
        yield [("warnings", "title"), (counted, "muted")]
        if not shown:
            yield [("none", "muted")]
        for notice in shown:
            yield from _wrapped(notice, width)


def _wrapped(notice: Notice, width: int) -> Iterator[Line]:
    mark = MARKS[notice.severity]
    lines = textwrap.wrap(
        visible(notice.text)[: width * MOST_LINES_EACH * 2],
        max(10, width - len(mark)),
        max_lines=MOST_LINES_EACH,
        placeholder=" ...",
    )
    for index, line in enumerate(lines):
        yield [((mark if index == 0 else " " * len(mark)) + line, notice.severity)]

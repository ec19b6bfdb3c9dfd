"""This screen shows one run: how far it is, whether the reward rises, what is in the way.

Everything is read and counted by `RunReader` in the feed's thread; panels draw what arrives.
Those of warnings and of events are here.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from halos_tui.control.offers import SeenRun
from halos_tui.feed import Feed, FeedFailed, Updated
from halos_tui.formatting import clock_time, visible
from halos_tui.keymap import keys_of
from halos_tui.run.chart_panels import RewardChart, RewardDistribution, TrainCurves
from halos_tui.run.layout import LEAST_FRAMED, Needs, PanelName, arrange
from halos_tui.run.machine_panel import MachinePanel
from halos_tui.run.reader import RunReader
from halos_tui.run.round_table import RoundTable
from halos_tui.run.run_header import RunHeader, StageProgress, num_lines, num_progress_lines
from halos_tui.run.says_panel import SaysPanel, is_long
from halos_tui.run.view import EventsView, Happened, HeaderView, Notice, RunView
from halos_tui.screens.base import is_boxed
from halos_tui.widgets.footer import Footer
from halos_tui.widgets.painted import FRAMED
from halos_tui.widgets.panel import Line, Panel

Notices = tuple[Notice, ...]
UNFRAMED = ("header", "stage")
MOST_LINES_EACH = 3
WITH_SECONDS = 50
MARKS = {"bad": "!! ", "warning": "! ", "muted": "- "}


class RunScreen(RunActions):
    """The screen is about `run_dir`. The cursor of the table chooses whose details are shown."""

    NAME: ClassVar[ScreenName] = "run"
    IS_REDUCED: ClassVar[bool] = True
    BINDINGS: ClassVar[list[BindingType]]
    BORDER_KEYS: ClassVar[Mapping[str, Sequence[str]]] = {
        "rounds": ("search", "completions", "changes"),
        "says": ("next_prompt", "open_prompt"),
        "rewards": ("metrics",),
        "curves": ("next_curve",),
        "events": ("logs",),
    }
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
            yield EventsPanel(is_ascii=is_ascii, id="events")
        yield Input(placeholder="jump to round", type="integer", id="jump")
        yield Footer(is_ascii=is_ascii)

    def on_mount(self) -> None:
        self.query_one(RunHeader).show(HeaderView(self.run_dir.name))
        self.query_one(RoundTable).focus()
        if not self.halos.options.read_only:
            self._reader.keys = keys_of("run", self.halos.config.keys)
        self._reader.in_keys = self.wording()
        self._feed = self.follow(self._reader.read)

    def on_resize(self) -> None:
        self._place()

    @on(Footer.Grown)
    def _make_room_for_keys(self) -> None:
        self._place()

    async def on_updated(self, message: Updated[RunView]) -> None:
        """Draws a panel at a time, so that keys have their turn in between."""
        self.view = message.view
        self.mind_actions()
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

    def seen_runs(self) -> list[SeenRun] | None:
        if self.view is None or self.view.header.status == "unknown":
            return None
        return [SeenRun(self.run_dir, self.view.header.status, self.view.standing)]

    def why_not(self, action: str) -> str:
        if self.view is not None:
            if action in ("next_prompt", "open_prompt") and not self.view.says.num_prompts:
                return "nothing is scored yet"
            if action == "next_curve" and len(self.view.curves.curves) < 2:
                return "there is no other curve"
        return super().why_not(action)

    def action_next_curve(self) -> None:
        self.query_one(TrainCurves).show_next()

    def action_next_prompt(self) -> None:
        self._reader.take_next_prompt()
        if self._feed is not None:
            self._feed.hurry()

    def action_open_prompt(self) -> None:
        """Opens the completions at the prompt that is shown."""
        if self.view is None:
            return
        says = self.view.says
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
        num_devices = len(view.machine.gpus) + (view.machine.host is not None)
        needs = Needs(
            num_progress_lines(view.progress),
            num_devices=num_devices,
            num_device_notes=sum(bool(gpu.others) for gpu in view.machine.gpus),
            num_notices=len(view.notices),
            num_rounds=_num_table_rows(view),
            has_long_texts=is_long(view.says, self.query_one(SaysPanel).size.width),
        )
        yield partial(self._make_room, view.header, needs)
        yield partial(self.query_one(RunHeader).show, view.header)
        yield partial(self.query_one(StageProgress).show, view.progress)
        yield partial(self.query_one(RoundTable).show, view.rounds)
        yield partial(self.query_one(SaysPanel).show, view.says)
        yield partial(self.query_one(RewardChart).show, view.rewards)
        yield partial(self.query_one(RewardDistribution).show, view.distribution)
        yield partial(self.query_one(TrainCurves).show, view.curves)
        yield partial(self.query_one(MachinePanel).show, view.machine)
        yield partial(self.query_one(NoticesPanel).show, view.notices)
        yield partial(self.query_one(EventsPanel).show, view.events)

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
        height = self.size.height - (footer.num_lines if footer.display else 0)
        places = arrange(self.size.width, height, self._needs, boxed=is_boxed(self.size))
        for panel in panels.children:
            put(panel, places.get(_name_of(panel)), is_framed=panel.id not in UNFRAMED)


def _num_table_rows(view: RunView) -> int | None:
    """Counts the rows of the table of a run that is done: its rounds, and the final policy."""
    planned = view.progress.num_rounds
    return None if planned is None else max(planned + 1, len(view.rounds.rows))


def _name_of(panel: Widget) -> PanelName:
    return cast("PanelName", panel.id)


def put(panel: Widget, region: Region | None, *, is_framed: bool) -> None:
    """Puts a panel into its place, in a frame where that has room; without a place it is hidden."""
    panel.display = region is not None
    if region is not None:
        panel.set_class(is_framed and region.height >= LEAST_FRAMED, FRAMED)
        panel.styles.width, panel.styles.height = region.size
        panel.styles.offset = region.offset


class EventsPanel(Panel[EventsView]):
    """It shows what happened, newest last, and below it the stage's own output, dimmed.

    Output has half of the room at most, unless little has happened.
    """

    def caption(self, width: int) -> Line:
        del width
        about = self.shown.title if self.shown else ""
        return [("events", "title"), (f"  {about}" if about else "", "muted")]

    def lines(self, shown: EventsView, width: int, height: int) -> Iterator[Line]:
        room = height
        if shown.problem and room > 1:
            yield [(shown.problem, "warning")]
            room -= 1
        happened = [*shown.events, *shown.now]
        if not happened:
            yield [("no stage has run yet", "muted")]
        num_told = min(len(happened), room - min(len(shown.output), room // 2))
        num_output = min(len(shown.output), room - num_told)
        yield from _events(happened[-num_told:] if num_told > 0 else [], width)
        for line in shown.output[-num_output:] if num_output > 0 else ():
            yield [(f"  | {line.expandtabs(4)}", "muted")]


def _events(told: Sequence[Happened], width: int) -> Iterator[Line]:
    """Yields a line each; where there is little room the seconds are left out."""
    digits, gap = (8, 2) if width >= WITH_SECONDS else (5, 1)
    names = max((len(one.where) for one in told), default=0) + gap
    for one in told:
        style = one.severity or "accent"
        yield [
            (f"{clock_time(one.t)[:digits]} ", "muted"),
            (one.where.ljust(names), style),
            (one.text, one.severity),
        ]


class NoticesPanel(Panel[Notices]):
    """It says how many there are where there is no room for all."""

    def caption(self, width: int) -> Line:
        del width
        count = len(self.shown or ())
        return [("warnings", "title"), (f"  {count}" if count > 1 else "", "muted")]

    def lines(self, shown: Notices, width: int, height: int) -> Iterator[Line]:
        if height <= 2:
            for notice in shown[:height]:
                left = len(shown) - height
                more = f"({left} more) " if left > 0 and notice is shown[height - 1] else ""
                yield [(f"{MARKS[notice.severity]}{more}{notice.text}", notice.severity)]
            return
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

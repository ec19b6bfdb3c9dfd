"""Owns what the preview shows of a run: how it stands, its rewards, its answers, its cost.

Its panels are those of the run screen. They take long to import, so that `preview` does it late.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from halos_backend.store.state import ENDED
from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Region

from halos_tui.charts.line_chart import LineChart
from halos_tui.formatting import duration, number, short_count, size, visible
from halos_tui.run.chart_panels import RewardChart
from halos_tui.run.run_header import (
    RunHeader,
    StageProgress,
    flowing,
    num_lines,
    num_progress_lines,
)
from halos_tui.run.says_panel import SaysPanel, is_long
from halos_tui.run.screen import EventsPanel, NoticesPanel, put
from halos_tui.runs.comparison import Comparison, ComparisonPanel, num_table_lines
from halos_tui.runs.preview_reader import Preview
from halos_tui.widgets.panel import GAP, Line, Panel, joined

PartName = Literal[
    "header", "words", "stage", "notices", "cost", "rewards", "says", "events", "compared", "curves"
]
FRAMED = ("rewards", "says", "events", "curves")
"""These parts have a rule above them, with their titles."""
MOST_HEADER_LINES = 6
MOST_WORDS_LINES = 4
MOST_NOTICES = 2
MIN_CHART, MOST_CHART = 6, 14
ALL_SAYS, MOST_SAYS = 5, 14
"""Four completions take so many lines with a title, and long ones at most so many."""
MIN_EVENTS = 4
FLAT_WIDTH = 72
MIN_FLAT_LINES, FLAT_LINES = 8, 24
J_PER_KWH, S_PER_H = 3.6e6, 3600


@dataclass(frozen=True)
class Needs:
    """Counts the lines of what is known of the run; nothing of it is shown where there are none."""

    num_header_lines: int = 1
    num_words_lines: int = 0
    num_progress_lines: int = 0
    num_notices: int = 0
    num_cost_lines: int = 1
    has_rewards: bool = True
    has_says: bool = True
    has_long_texts: bool = False
    has_events: bool = True


def arrange(room: Region, needs: Needs) -> dict[PartName, Region]:
    """Places the parts; one without a place is not shown. Nothing overlaps, nothing sticks out."""
    if not room.area:
        return {}
    if is_flat(room.size) and needs.has_rewards and needs.has_says:
        upper, lower = room.split_horizontal(room.height - max(ALL_SAYS, room.height // 3))
        left, right = upper.split_vertical(text_width(room.size) + len(GAP))
        places, _ = _told(left.shrink((0, len(GAP), 0, 0)), needs, num_kept=0)
        return places | {"rewards": right, "says": lower}
    num_kept = ALL_SAYS if needs.has_says else 0
    places, rest = _told(room, needs, num_kept=num_kept)
    chart = min(MOST_CHART, rest.height - num_kept)
    if needs.has_rewards and chart >= MIN_CHART:
        places["rewards"], rest = rest.split_horizontal(chart)
    if needs.has_says and rest.height:
        says = min(MOST_SAYS, rest.height // 2) if needs.has_long_texts else ALL_SAYS
        has_room = needs.has_events and rest.height >= max(says, ALL_SAYS) + MIN_EVENTS
        places["says"], rest = rest.split_horizontal(says if has_room else rest.height)
    if needs.has_events and rest.height >= MIN_EVENTS:
        places["events"] = rest
    return places


def is_flat(size: tuple[int, int]) -> bool:
    """Says whether the chart is beside the texts: the pane is wide and has few lines."""
    width, height = size
    return width >= FLAT_WIDTH and MIN_FLAT_LINES <= height < FLAT_LINES


def text_width(size: tuple[int, int]) -> int:
    """Returns the width of what is said of the run."""
    width, _ = size
    return (width - len(GAP)) * 11 // 20 if is_flat(size) else width


def _told(room: Region, needs: Needs, *, num_kept: int) -> tuple[dict[PartName, Region], Region]:
    """Places texts from the top; returns what is left, of which `num_kept` lines are for others."""
    parts: tuple[tuple[PartName, int, int], ...] = (
        ("header", min(MOST_HEADER_LINES, needs.num_header_lines), 0),
        ("words", min(MOST_WORDS_LINES, needs.num_words_lines), num_kept),
        ("stage", needs.num_progress_lines, num_kept),
        ("notices", min(MOST_NOTICES, needs.num_notices), num_kept),
        ("cost", needs.num_cost_lines, num_kept),
    )
    places: dict[PartName, Region] = {}
    for name, lines, kept in parts:
        given = min(lines, room.height - kept)
        if given > 0:
            places[name], room = room.split_horizontal(given)
    return places, room


class PreviewParts(Container):
    """It places its parts anew with each run, since some say more than others."""

    DEFAULT_CSS = """
    PreviewParts { overflow: hidden; width: 1fr; height: 1fr; }
    PreviewParts > * { position: absolute; display: none; }
    """

    def __init__(self, *, is_ascii: bool = False) -> None:
        super().__init__()
        self._is_ascii = is_ascii
        self._shown: Preview | Comparison | None = None

    def compose(self) -> ComposeResult:
        yield RunHeader(is_ascii=self._is_ascii, id="header")
        yield WordsPanel(is_ascii=self._is_ascii, id="words")
        yield StageProgress(is_ascii=self._is_ascii, id="stage")
        yield NoticesPanel(is_ascii=self._is_ascii, id="notices")
        yield CostPanel(is_ascii=self._is_ascii, id="cost")
        yield RewardChart(is_ascii=self._is_ascii, id="rewards")
        yield SaysPanel(is_ascii=self._is_ascii, id="says")
        yield EventsPanel(is_ascii=self._is_ascii, id="events")
        yield ComparisonPanel(is_ascii=self._is_ascii, id="compared")
        yield LineChart("reward by round", is_ascii=self._is_ascii, id="curves")

    def on_resize(self) -> None:
        self._place()

    def show(self, shown: Preview | Comparison | None) -> None:
        """Shows this run, or several compared, or nothing."""
        self._shown = shown
        self._place()
        if isinstance(shown, Comparison):
            self.query_one(ComparisonPanel).show(shown)
            self.query_one("#curves", LineChart).update(shown.curves)
        elif shown is not None:
            run = shown.run
            self.query_one(RunHeader).show(run.header)
            self.query_one(WordsPanel).show(shown)
            self.query_one(StageProgress).show(run.progress)
            self.query_one(NoticesPanel).show(run.notices)
            self.query_one(RewardChart).show(run.rewards)
            self.query_one(SaysPanel).show(run.says)
            self.query_one(EventsPanel).show(run.events)
            self.query_one(CostPanel).show(shown)

    def _place(self) -> None:
        room = self.size.region
        places: dict[PartName, Region] = {}
        if isinstance(self._shown, Comparison):
            table, rest = room.split_horizontal(min(room.height, num_table_lines(self._shown)))
            has_chart = self._shown.curves and rest.height >= MIN_CHART
            places = {"compared": table, "curves": rest} if has_chart else {"compared": room}
        elif self._shown is not None:
            places = arrange(room, needs_of(self._shown, text_width(self.size)))
        for panel in self.children:
            name = cast("PartName", panel.id)
            put(panel, places.get(name), is_framed=name in FRAMED)


def needs_of(shown: Preview, width: int) -> Needs:
    """Says how much room the texts take; a run that has ended has no progress, and one that stopped
    says why.
    """
    run = shown.run
    is_moving = run.progress.steps and run.header.status not in ENDED
    return Needs(
        num_lines(run.header, width),
        len(_words(shown, width)),
        num_progress_lines(run.progress) if is_moving else 0,
        0 if run.header.reason else len(run.notices),
        len(flowing(_cost(shown), width)),
        has_rewards=len(run.rewards.rounds) > 0,
        has_says=run.says.num_prompts > 0,
        has_long_texts=is_long(run.says, width),
        has_events=len(run.events.events) > 0,
    )


class WordsPanel(Panel[Preview]):
    """It shows a person's own words: title and tags, and the note below them."""

    def lines(self, shown: Preview, width: int, height: int) -> list[Line]:
        del height
        return _words(shown, width)


def _words(shown: Preview, width: int) -> list[Line]:
    words = shown.words
    first = joined([[(words.title, "title")], [(" ".join(words.tags), "accent")]])
    found: list[Line] = [first] if first else []
    if shown.words_problem:
        found.append([(shown.words_problem, "warning")])
    left = max(1, MOST_WORDS_LINES - len(found))
    note = textwrap.wrap(visible(words.note), max(10, width), max_lines=left, placeholder=" ...")
    return found + [[(line, "")] for line in note]


class CostPanel(Panel[Preview]):
    """It says what the run took so far, as far as anybody knows."""

    def lines(self, shown: Preview, width: int, height: int) -> Iterator[Line]:
        del height
        yield from (joined(line) for line in flowing(_cost(shown), width))


def _cost(shown: Preview) -> Iterator[Line]:
    elapsed_s, stages = shown.run.header.elapsed_s, shown.run.cost
    told = (
        (elapsed_s, f"{duration(elapsed_s)} at work"),
        (stages.gpu_s, f"{number(stages.gpu_s / S_PER_H, 3)} GPU h"),
        (stages.gpu_energy_j, f"{number(stages.gpu_energy_j / J_PER_KWH, 3)} kWh of GPUs"),
        (stages.sampled_tokens, f"{short_count(stages.sampled_tokens)} tokens sampled"),
        (stages.trained_tokens, f"{short_count(stages.trained_tokens)} trained"),
        (shown.disk_bytes, f"{size(shown.disk_bytes)} on disk"),
    )
    yield [("cost", "title")]
    yield from ([(text, "")] for value, text in told if value)

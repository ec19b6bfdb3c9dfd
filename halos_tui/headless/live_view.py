"""Draws a followed run in place on a terminal, at most 4 times a second, as one compact picture.

Drawing is pure: state in, rich renderables out; it fits 80x24. All text is `Text`, never markup,
and went through `visible`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from halos_backend import clock
from halos_backend.events import AttemptEvent, RunEvent, Stage, Warned
from halos_backend.store.attempt_state import LiveStage
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.state import AT_WORK, RunState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from halos_tui.formatting import (
    clipped,
    count,
    duration,
    measured,
    measured_in_ascii,
    rate,
    visible,
)
from halos_tui.theme import load_theme
from halos_tui.tracking import rounds
from halos_tui.tracking.rounds import place
from halos_tui.tracking.run_tail import RunTail
from halos_tui.tracking.status import SeenStatus

INTERVAL_S = 0.25
IDLE_INTERVAL_S = 1.0
"""Without news only the clocks in the picture move."""
NUM_WARNINGS = 2

BAR_WIDTH = 24
CHANGE = rounds.HEADER.index("change")
SHOWN_METRICS = 5
STYLE_OF_STATUS = {
    "completed": "good",
    "failed": "bad",
    "aborted": "warning",
    "aborting": "warning",
    "pausing": "warning",
    "paused": "warning",
    "stalled": "bad",
}
MAX_PENDING = 3


class LiveView:
    """Redraws one compact picture of the run below the cursor."""

    def __init__(self, *, footer: str) -> None:
        self.console = Console(theme=load_theme(), highlight=False, markup=False, emoji=False)
        self._footer = footer
        self._warnings: deque[str] = deque(maxlen=NUM_WARNINGS)
        self._live: Live | None = None
        self._tail: RunTail | None = None
        self._status: SeenStatus = "created"
        self._has_news = True
        self._drawn_at = float("-inf")

    def show(
        self, events: list[RunEvent | AttemptEvent], tail: RunTail, *, status: SeenStatus
    ) -> None:
        self._tail = tail
        self._status = status
        self._has_news = self._has_news or bool(events)
        for event in events:
            if isinstance(event, Warned):
                self._warnings.append(
                    f"{place(tail.state, event.round)} {event.stage}: {event.text}"
                )
        interval = INTERVAL_S if self._has_news else IDLE_INTERVAL_S
        if clock.monotonic() - self._drawn_at >= interval:
            self._draw(tail)

    def hide(self) -> None:
        """Takes the picture off the screen; the next `show` puts it back."""
        if self._live is not None:
            self._live.transient = True
            self._live.stop()
            self._live = None
            self._drawn_at = float("-inf")

    def close(self) -> None:
        """Leaves the newest picture on the screen."""
        if self._tail is not None and self._live is not None:
            self._footer = ""
            self._draw(self._tail)
            self._live.stop()
            self._live = None
            self._tail = None

    def _draw(self, tail: RunTail) -> None:
        picture = draw(
            Picture(
                tail.state,
                self._status,
                dict(tail.live),
                tuple(self._warnings),
                self._footer,
                clock.now(),
            ),
            width=self.console.width,
            height=self.console.height,
            is_ascii=not self.console.encoding.startswith("utf"),
        )
        if self._live is None:
            self._live = Live(
                console=self.console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(picture, refresh=True)
        self._has_news = False
        self._drawn_at = clock.monotonic()


@dataclass(frozen=True)
class Picture:
    """Holds what is to be seen, and when. `status` is the state's, unless its supervisor is
    stalled.
    """

    state: RunState
    status: SeenStatus
    live: Mapping[tuple[int, Stage], LiveStage]
    warnings: tuple[str, ...]
    footer: str
    now: float


def draw(picture: Picture, *, width: int, height: int, is_ascii: bool = False) -> RenderableType:
    """Draws rounds, the stages that run, what is in their way or to come, warnings, a footer.

    Older rounds are left out to fit.
    """
    below: list[Text] = []
    for (round, stage), live in picture.live.items():
        below += _live_stage(picture, round, stage, live, is_ascii=is_ascii)
    below += _standing(picture.state)
    below += [Text(f"! {visible(text)}", style="warning") for text in picture.warnings]
    if picture.footer:
        below.append(Text(picture.footer, style="muted"))
    for line in below:
        line.truncate(width, overflow="crop" if is_ascii else "ellipsis")
        line.no_wrap = True
    room = max(1, height - len(below) - 4)
    table = _rounds(picture.state, room, is_ascii=is_ascii)
    return Group(_header(picture, width), table, *below)


def _header(picture: Picture, width: int) -> Text:
    state = picture.state
    planned = planned_rounds(state)
    header = Text(no_wrap=True)
    header.append(visible(state.run) or "run", style="accent")
    header.append("  ")
    header.append(picture.status, style=STYLE_OF_STATUS.get(picture.status, "good"))
    header.append(f"  round {state.num_rounds}{f' of {planned}' if planned else ''}")
    header.append(f"  {visible(rounds.loss_kind(state))}  {duration(state.elapsed_s(picture.now))}")
    header.truncate(width)
    return header


def _standing(state: RunState) -> list[Text]:
    """Says why it stopped or will stop, what its result is worth, what is in its way or to come."""
    score = rounds.final_score(state)
    lines = [Text(visible(score), style="good")] if score else []
    if state.reason and state.status in ("pausing", "paused", "failed"):
        lines.append(Text(visible(state.reason), style=STYLE_OF_STATUS[state.status]))
    if state.status in AT_WORK and (boundary := rounds.boundary(state)):
        lines.append(Text(f"{state.status} {boundary}", style="warning"))
    if state.status in AT_WORK and state.obstacle:
        lines.append(Text(f"! {visible(state.obstacle)}", style="warning"))
    for change in rounds.pending_changes(state)[:MAX_PENDING]:
        lines.append(Text(visible(rounds.describe_change(change)), style="muted"))
    return lines


def _rounds(state: RunState, room: int, *, is_ascii: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="muted")
    for name in rounds.HEADER:
        table.add_column(name, justify="right", no_wrap=True)
    rows, changes = rounds.table(state), rounds.reward_changes(state)
    hidden = max(0, len(state.rounds) - room)
    if hidden:
        hidden += 1  # the line that says so takes a row too
        table.add_row(Text(f"({hidden})", style="muted"), Text("earlier", style="muted"))
    for row, change in zip(rows[hidden:], changes[hidden:], strict=True):
        shown = [Text(measured_in_ascii(cell) if is_ascii else cell) for cell in row]
        if change is not None and change.direction:
            shown[CHANGE].stylize("good" if change.direction > 0 else "bad")
        table.add_row(*shown)
    return table


def _live_stage(
    picture: Picture, round: int, stage: Stage, live: LiveStage, *, is_ascii: bool
) -> list[Text]:
    started = picture.state.rounds[round - 1].stages[stage].started_t
    elapsed = duration(max(0.0, picture.now - started))
    head = Text(f"{stage} ", style="accent")
    head.append(f"{clipped(visible(live.phase), 40)}, {elapsed}", style="")
    lines = [head]
    if live.total:
        line = _bar(live, is_ascii=is_ascii)
        line.append(f" {count(live.done)}/{count(live.total)} {visible(live.unit)}")
        line.append(f"  {rate(live.rate, visible(live.unit))}  ETA {duration(live.eta_s)}")
        lines.append(line)
    if live.metrics:
        lines.append(Text(f"step {live.step}: {_metrics(live)}"))
    return lines


def _bar(live: LiveStage, *, is_ascii: bool) -> Text:
    full = int(BAR_WIDTH * min(1.0, live.done / live.total))
    done, rest = ("#", "-") if is_ascii else ("━", "╌")
    bar = Text(done * full, style="accent")
    bar.append(rest * (BAR_WIDTH - full), style="muted")
    return bar


def _metrics(live: LiveStage) -> str:
    shown = list(live.metrics.items())[:SHOWN_METRICS]
    return ", ".join(f"{visible(name)} {measured(value)}" for name, value in shown)

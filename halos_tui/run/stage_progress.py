"""This panel shows the stages that run: phase, progress, rate, time left, newest metrics."""

from __future__ import annotations

from collections.abc import Iterator

from halos_tui.formatting import count, duration, number, percent, rate
from halos_tui.run.view import StageView
from halos_tui.tracking.eta import describe
from halos_tui.widgets.canvas import Run
from halos_tui.widgets.panel import Line, Panel, beside, joined

Stages = tuple[StageView, ...]

LINES_A_STAGE = 3
MOST_BAR = 40
LEAST_BAR = 8
HIDDEN_METRICS = frozenset({"num_tokens", "num_examples"})


class StageProgress(Panel[Stages]):
    """A stage has three lines."""

    def lines(self, shown: Stages, width: int, height: int) -> Iterator[Line]:
        del height
        if not shown:
            yield [("no stage runs", "muted")]
        for stage in shown:
            yield _head(stage, width)
            yield _progress(stage, width, is_ascii=self.is_ascii)
            yield _metrics(stage)


def _head(stage: StageView, width: int) -> Line:
    again = f"attempt {stage.attempt}" if stage.attempt > 1 else ""
    return beside(
        joined(
            [
                [(stage.stage, "accent"), (f" {stage.place}", "muted")],
                [(stage.phase, "title")],
                [(duration(stage.elapsed_s), "muted")],
                [(again, "warning")],
            ]
        ),
        [("stage ", "muted"), (describe(stage.eta), "")] if stage.eta else [],
        width,
    )


def _progress(stage: StageView, width: int, *, is_ascii: bool) -> Line:
    if not stage.total:
        return []
    share = min(1.0, stage.done / stage.total)
    told: list[Line] = [
        [(f"{count(stage.done)}/{count(stage.total)} {stage.unit}", "")],
        [(percent(share), "muted")],
        [(rate(stage.rate, stage.unit) if stage.rate else "", "")],
    ]
    bar = min(MOST_BAR, width - sum(len(text) + 2 for part in told for text, _ in part))
    return joined([_bar(share, bar, is_ascii=is_ascii) if bar >= LEAST_BAR else [], *told])


def _bar(share: float, width: int, *, is_ascii: bool) -> list[Run]:
    done, rest = ("#", "-") if is_ascii else ("━", "╌")
    full = int(width * share)
    return [(done * full, "accent"), (rest * (width - full), "muted")]


def _metrics(stage: StageView) -> Line:
    parts: list[Line] = [
        [(f"{name} ", "muted"), (number(value), "")]
        for name, value in stage.metrics
        if name not in HIDDEN_METRICS
    ]
    return joined([[(f"step {count(stage.step)}", "muted")], *parts]) if parts else []

"""These panels head the run screen: what the run is and why, and below it how far it is.

Progress is a bar for the run, the round's stages one after the other, and what the running ones do.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Literal

from rich.cells import cell_len

from halos_tui.formatting import (
    count,
    duration,
    measured,
    percent,
    rate,
    rough_duration,
    visible,
)
from halos_tui.run.view import HeaderView, ProgressView, StageView, StepView
from halos_tui.tracking.eta import OVERDUE, Estimate, describe
from halos_tui.tracking.status import SeenStatus
from halos_tui.widgets.canvas import Run
from halos_tui.widgets.panel import GAP, Line, Panel, beside, joined

STYLE_OF_STATUS: dict[SeenStatus | Literal["unknown"], str] = {
    "unknown": "bad",
    "running": "good",
    "completed": "good",
    "failed": "bad",
    "lost": "bad",
    "stalled": "bad",
    "aborted": "warning",
    "aborting": "warning",
    "pausing": "warning",
    "paused": "warning",
}
MOST_LINES_EACH = 3
MOST_BAR = 40
LEAST_BAR = 8
SHORT_NAMES = {
    "loss": "loss",
    "implicit_reward_margin": "margin",
    "implicit_reward_accuracy": "accuracy",
    "kto_kl": "KL",
    "grad_norm": "gradient norm",
    "advantage_abs_mean": "advantage",
    "clip_frac": "clipped",
    "sampler_ratio_mean": "sampler ratio",
    "sampler_capped_frac": "sampler capped",
    "lr": "lr",
}
"""These metrics of a step are shown, in this order, as far as there is room."""
MARKS = {"done": "✓", "running": "▸", "waiting": "·", "failed": "✗"}
ASCII_MARKS = {"done": "[x]", "running": "[>]", "waiting": "[ ]", "failed": "[!]"}
STYLE_OF_MARK = {"done": "good", "running": "accent", "waiting": "muted", "failed": "bad"}


class RunHeader(Panel[HeaderView]):
    """The status comes first, then as many lines as the rest takes; see `num_lines`."""

    def lines(self, shown: HeaderView, width: int, height: int) -> Iterator[Line]:
        del height
        yield _status(shown)
        yield from (joined(line) for line in flowing(_told(shown, width), width))


def num_lines(shown: HeaderView, width: int) -> int:
    """Counts the lines that it takes to say all of it."""
    return 1 + len(flowing(_told(shown, width), width))


def _told(shown: HeaderView, width: int) -> Iterator[Line]:
    """Yields what is wrong, why the status is so, what to do, what waits."""
    style = STYLE_OF_STATUS.get(shown.status, "")
    for text, text_style in ((shown.problem, "bad"), (shown.reason, style)):
        lines = textwrap.wrap(visible(text), max(20, width), max_lines=MOST_LINES_EACH)
        yield from ([(line, text_style)] for line in lines)
    if shown.hint:
        yield [(shown.hint, "accent")]
    if shown.pending:
        yield [(f"next: {'; '.join(shown.pending)}", "accent")]


def flowing(parts: Iterable[Line], width: int) -> list[list[Line]]:
    """Lays parts out on as few lines as hold them whole."""
    lines: list[list[Line]] = []
    used = 0
    for part in parts:
        cells = sum(cell_len(visible(text)) for text, _ in part)
        if lines and used + len(GAP) + cells <= width:
            lines[-1].append(part)
            used += len(GAP) + cells
        else:
            lines.append([part])
            used = cells
    return lines


def _status(shown: HeaderView) -> Line:
    of = f" of {shown.num_rounds}" if shown.num_rounds else ""
    return joined(
        [
            [(shown.name or "run", "title")],
            [(shown.status, STYLE_OF_STATUS.get(shown.status, ""))],
            [(f"round {shown.round}{of}" if shown.status == "unknown" else "", "")],
            [(shown.loss, "")],
            [(duration(shown.elapsed_s) if shown.elapsed_s else "", "muted")],
        ]
    )


class StageProgress(Panel[ProgressView]):
    """It has a line for the run, one for its round, and two for the stage that runs; one for each
    where several do.
    """

    def lines(self, shown: ProgressView, width: int, height: int) -> Iterator[Line]:
        del height
        yield self._run(shown, width)
        yield self._steps(shown, width)
        for stage in shown.stages:
            yield self._stage(stage, width)
            if len(shown.stages) == 1:
                yield _metrics(stage, width)

    def _run(self, shown: ProgressView, width: int) -> Line:
        of = f" of {shown.num_rounds}" if shown.num_rounds else ""
        parts: list[Line] = [[(f"round {shown.round}{of}", "title")]]
        after: list[Line] = []
        if shown.share is not None:
            after.append([(f"{int(100 * shown.share)}%", "")])
        if shown.run_eta is not None:
            after.append([(_left(shown.run_eta), "")])
            about = "after" if shown.run_eta.is_open else "about"
            after.append([(f"ends {about} ", "muted"), (shown.ends, "title")])
        bar = self._bar(shown.share, width, [*parts, *after])
        return joined([*parts, bar, *after])

    def _steps(self, shown: ProgressView, width: int) -> Line:
        if not shown.steps:
            return [("no stage has run yet", "muted")]
        line: list[Run] = []
        for step in shown.steps:
            line += [(" > ", "muted")] if line else []
            line += self._step(step)
        if shown.place.startswith("final"):
            line += [(f"  {shown.place}", "muted")]
        eta = shown.round_eta
        return beside(line, [("round ", "muted"), (_left(eta), "")] if eta else [], width)

    def _step(self, step: StepView) -> list[Run]:
        style = STYLE_OF_MARK[step.mark]
        mark = (ASCII_MARKS if self.is_ascii else MARKS)[step.mark]
        time = "" if step.time_s is None else f" {duration(step.time_s)}"
        if step.mark == "running" and step.time_s is not None and step.time_s < 10:
            time = f" {int(step.time_s)}s"
        if step.mark == "waiting" and step.usual_s is not None:
            time = f" ~{rough_duration(step.usual_s)}"
        failed = " failed" if step.mark == "failed" else ""
        return [(f"{mark} {step.name}{failed}", style), (time, "muted")]

    def _stage(self, stage: StageView, width: int) -> Line:
        """Leaves doubt and rate out before the bar."""
        before: list[Line] = [[(f"{stage.stage} ", "accent"), (stage.phase, "")]]
        if stage.attempt > 1:
            before.append([(f"attempt {stage.attempt}", "warning")])
        share = min(1.0, stage.done / stage.total) if stage.total else None
        told, per_s = [], []
        if share is not None:
            told = [[(percent(share, places=0), "")], [(_done(stage), "")]]
        if stage.rate:
            per_s = [[(rate(stage.rate, stage.unit), "muted")]]
        left, short = _left(stage.eta), _left(stage.eta, is_short=True)
        line: Line = []
        for after in (
            [*told, *per_s, [(left, "")]],
            [*told, *per_s, [(short, "")]],
            [*told, [(short, "")]],
        ):
            bar = self._bar(share, width, [*before, *after])
            line = joined([*before, bar, *after])
            if bar or share is None:
                break
        return line

    def _bar(self, share: float | None, width: int, others: Iterable[Line]) -> list[Run]:
        """Draws a bar in the room that the others leave."""
        used = sum(len(GAP) + sum(cell_len(visible(text)) for text, _ in other) for other in others)
        cells = min(MOST_BAR, width - used)
        if share is None or cells < LEAST_BAR:
            return []
        done, rest = ("#", "-") if self.is_ascii else ("━", "╌")
        full = int(cells * share)
        return [(done * full, "accent"), (rest * (cells - full), "muted")]


def num_progress_lines(shown: ProgressView) -> int:
    """Counts the lines that it takes; between two stages of a run at work nothing moves."""
    return 2 + (max(2, len(shown.stages)) if shown.stages or shown.is_at_work else 0)


def _left(eta: Estimate | None, *, is_short: bool = False) -> str:
    """Writes about 4m left (3m-6m), without the doubt where it is to be short."""
    if eta is None:
        return ""
    likely, _, spread = describe(eta).partition(" (")
    if likely == OVERDUE:
        return likely
    return f"{likely} left{f' ({spread}' if spread and not is_short else ''}"


def _done(stage: StageView) -> str:
    if stage.prompts is not None:
        return f"{count(stage.prompts[0])} of {count(stage.prompts[1])} prompts"
    return f"{count(stage.done)} of {count(stage.total)} {stage.unit}"


def _metrics(stage: StageView, width: int) -> Line:
    found = dict(stage.metrics)
    parts: list[Line] = [[(f"step {count(stage.step)}", "muted")]] if found else []
    for name, short in SHORT_NAMES.items():
        if name in found:
            parts.append([(f"{short} ", "muted"), (measured(found[name]), "")])
    if len(parts) == 1:
        return []
    while sum(len(text) for text, _ in joined(parts)) > width and len(parts) > 1:
        parts.pop()
    return joined(parts)

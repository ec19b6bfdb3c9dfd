"""This panel heads the run screen: what the run does, why, how long still, what comes next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Literal

from rich.cells import cell_len

from halos_tui.formatting import duration, visible
from halos_tui.run.view import HeaderView
from halos_tui.tracking.eta import describe
from halos_tui.tracking.status import SeenStatus
from halos_tui.widgets.panel import GAP, Line, Panel, joined

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


class RunHeader(Panel[HeaderView]):
    """The status comes first, then as many lines as the rest takes; see `num_lines`."""

    def lines(self, shown: HeaderView, width: int, height: int) -> Iterator[Line]:
        del height
        yield _status(shown)
        yield from (joined(line) for line in _flowing(_told(shown, width), width))


def num_lines(shown: HeaderView, width: int) -> int:
    """Counts the lines that it takes to say all of it."""
    return 1 + len(_flowing(_told(shown, width), width))


def _told(shown: HeaderView, width: int) -> Iterator[Line]:
    """Yields what is wrong, why the status is so, what to do, how long still, what waits."""
    style = STYLE_OF_STATUS.get(shown.status, "")
    for text, text_style in ((shown.problem, "bad"), (shown.reason, style)):
        lines = textwrap.wrap(visible(text), max(20, width), max_lines=MOST_LINES_EACH)
        yield from ([(line, text_style)] for line in lines)
    if shown.hint:
        yield [(shown.hint, "accent")]
    if shown.round_eta:
        yield [("ETA round ", "muted"), (describe(shown.round_eta), "")]
    if shown.run_eta:
        yield [("run ", "muted"), (describe(shown.run_eta), "")]
    if shown.pending:
        yield [(f"next: {'; '.join(shown.pending)}", "accent")]


def _flowing(parts: Iterable[Line], width: int) -> list[list[Line]]:
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
            [(f"round {shown.round}{of}", "")],
            [(shown.loss, "")],
            [(duration(shown.elapsed_s) if shown.elapsed_s else "", "muted")],
        ]
    )

"""The first lines of the run screen: what the run does, why, how long still, what comes next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Literal

from halos_tui.etas import describe
from halos_tui.formatting import duration, visible
from halos_tui.observed import SeenStatus
from halos_tui.run_view import HeaderView
from halos_tui.widgets.canvas import Run
from halos_tui.widgets.panel import Line, Panel, beside, joined

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


class RunHeader(Panel[HeaderView]):
    """Up to three lines: the status, then its reason or what is left, then what waits."""

    def lines(self, shown: HeaderView, width: int, height: int) -> Iterator[Line]:
        left = [[("round ", "muted"), (describe(shown.round_eta), "")]] if shown.round_eta else []
        left += [[("run ", "muted"), (describe(shown.run_eta), "")]] if shown.run_eta else []
        yield beside(_status(shown), joined(left) if height < 2 else [], width)
        for line in textwrap.wrap(
            visible(shown.problem), max(20, width), max_lines=max(1, height - 2)
        ):
            yield [(line, "bad")]
        why: list[Run] = [(shown.reason, STYLE_OF_STATUS.get(shown.status, ""))]
        hint: list[Run] = [(shown.hint, "accent")]
        waiting: list[Run] = [(f"next: {'; '.join(shown.pending)}", "accent")]
        parts = [why, hint, *([[("left", "muted")]] if left else []), *left]
        has_second = bool(shown.reason or shown.hint or left)
        if has_second:
            yield joined(parts) if height > 2 or not shown.pending else joined([*parts, waiting])
        if shown.pending and (height > 2 or not has_second):
            yield waiting


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

"""Draws a progress bar on standard error for what happens before a run can be followed."""

from __future__ import annotations

import sys
from types import TracebackType

from halos_backend import clock

from halos_tui.formatting import clipped, count, visible

INTERVAL_S = 0.1
BAR_WIDTH = 24
WIDTH = 79


class ProgressBar:
    """Redraws one line in place on a terminal; elsewhere prints one line for every new phase."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._phase = ""
        self._drawn_at = float("-inf")
        self._is_dirty = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_line()

    def update(self, phase: str, done: int, total: int) -> None:
        """Shows how far it is."""
        if not self._is_terminal:
            if phase != self._phase:
                print(visible(phase), file=sys.stderr, flush=True)  # noqa: T201
                self._phase = phase
            return
        if phase != self._phase:
            self._end_line()
            self._phase = phase
        elif done < total and clock.monotonic() - self._drawn_at < INTERVAL_S:
            return
        self._drawn_at = clock.monotonic()
        full = BAR_WIDTH * done // max(1, total)
        text = f"[{'#' * full}{'-' * (BAR_WIDTH - full)}] {count(done)}/{count(total)}"
        line = clipped(visible(f"{text}  {phase}"), WIDTH)
        sys.stderr.write(f"\r{line:{WIDTH}}")
        sys.stderr.flush()
        self._is_dirty = True

    def _end_line(self) -> None:
        if self._is_dirty:
            sys.stderr.write("\n")
            self._is_dirty = False

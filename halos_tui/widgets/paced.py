"""Panels that move under a person's hands, and still do not flood a slow line.

The first change is drawn at once. What it sends makes the next one wait until the line would have
taken it in, so that a key that is held down shows fewer pictures and never older ones.
"""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from textual.timer import Timer

from halos_tui.widgets.panel import Panel, PanelData

BYTES_PER_CELL = 1.25
"""Of text whose cells all change, moves and looks included."""


class Paced(Panel[PanelData]):
    """A panel that sends at most `BYTES_PER_S` for longer than one picture."""

    BYTES_PER_S: ClassVar[int] = 8_000

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._free_t = 0.0
        self._waiting: Timer | None = None

    def repaint(self) -> int:
        wait_s = self._free_t - monotonic()
        if wait_s <= 0:
            return self._repaint_now()
        if self._waiting is None:
            self._waiting = self.set_timer(wait_s, self._repaint_now)
        return 0

    def _repaint_now(self) -> int:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None
        num_cells = super().repaint()
        self._free_t = monotonic() + num_cells * BYTES_PER_CELL / self.BYTES_PER_S
        return num_cells

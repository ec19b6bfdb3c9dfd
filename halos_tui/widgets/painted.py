"""Owns the base of all drawn widgets: it is painted as rows of cells, and repaints what changed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from halos_tui.widgets.canvas import BLANK, Row, changed_span, runs


class Painted(Widget):
    """Subclasses draw all rows in `painting`; cells that stay the same are not sent again.

    A style name of a cell is the part of a component class after `<PREFIX>--`.
    """

    PREFIX: ClassVar[str] = ""

    def __init__(
        self, *, name: str | None = None, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(name=name, id=id, classes=classes, markup=False)
        self._rows: list[Row] = []
        self._strips: dict[int, Strip] = {}
        self._painted_size: Size | None = None

    @abstractmethod
    def painting(self, width: int, height: int) -> Sequence[Row]:
        """Returns what to show in so many cells; rows and columns that are missing stay blank."""

    def repaint(self) -> int:
        """Draws anew; only changed cells are sent. Before there is a size this does nothing.

        Returns how many cells were drawn anew.
        """
        if self._painted_size is None or self._painted_size != self.size:
            return 0
        before = self._rows
        self._rows = self._fitted()
        changed: list[Region] = []
        for y, (old, new) in enumerate(zip(before, self._rows, strict=True)):
            if span := changed_span(old, new):
                self._strips.pop(y, None)
                changed.append(Region(span[0], y, span[1] - span[0], 1))
        if changed:
            self.refresh(*changed)
        return sum(region.width for region in changed)

    def render_line(self, y: int) -> Strip:
        if self._painted_size != self.size:
            self._painted_size = self.size
            self._rows = self._fitted()
            self._strips.clear()
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        if y not in self._strips:
            self._strips[y] = self._strip(self._rows[y])
        return self._strips[y]

    def notify_style_update(self) -> None:
        self._strips.clear()
        super().notify_style_update()

    def _fitted(self) -> list[Row]:
        width, height = self.size
        rows = list(self.painting(width, height))[:height] if width and height else []
        blank: Row = (BLANK,) * width
        fitted = [row[:width] + blank[len(row) :] for row in rows]
        return fitted + [blank] * (height - len(rows))

    def _strip(self, row: Row) -> Strip:
        return Strip([Segment(text, self._style(style)) for text, style in runs(row)], len(row))

    def _style(self, name: str) -> Style:
        if not name:
            return self.rich_style  # a null style would show the terminal's colours
        return self.get_component_rich_style(f"{self.PREFIX}--{name}")

"""Owns the base of all drawn widgets: it is painted as rows of cells, and repaints what changed.

A widget of the class `framed` has a border with a title in it: a box where the screen is roomy,
else a rule above it. What it looks like is a matter of the style sheet of screens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.style import Style as TitleStyle
from textual.widget import Widget

from halos_tui.formatting import visible
from halos_tui.widgets.canvas import BLANK, Row, Run, changed_span, runs

FRAMED = "framed"
SERIES_COLOURS = {
    "series-1": "$accent",
    "series-2": "$warning",
    "series-3": "$success",
    "series-4": "$secondary",
    "series-5": "$error",
    "series-6": "$primary",
}
"""These are the colours of lines, in charts and where they are named."""


def series_css(prefix: str) -> str:
    """Returns the rules for the component classes of a widget with that prefix."""
    return " ".join(
        f".{prefix}--{name} {{ color: {colour}; }}" for name, colour in SERIES_COLOURS.items()
    )


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
        self._caption: tuple[Run, ...] = ()
        self._title = ""

    @abstractmethod
    def painting(self, width: int, height: int) -> Sequence[Row]:
        """Returns what to show in so many cells; rows and columns that are missing stay blank."""

    @property
    def is_framed(self) -> bool:
        """Says whether it has a border, with its title in it."""
        return self.has_class(FRAMED)

    def frame(self, title: str) -> None:
        """Gives it a border with that title, unless it says more in its own `caption`."""
        self._title = title
        self.add_class(FRAMED)

    def caption(self, width: int) -> Sequence[Run]:
        """Returns what stands in the border above, in at most so many cells."""
        del width
        return [(self._title, "title")] if self._title else ()

    def repaint(self) -> int:
        """Draws anew; only changed cells are sent. Before there is a size this does nothing.

        Returns how many cells were drawn anew.
        """
        if self._painted_size is None or self._painted_size != self.size:
            self._painted_size = None  # hidden: what it is shown again with is another picture
            self.refresh()
            return 0
        self._write_caption()
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
            self.call_next(self._write_caption)
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        if y not in self._strips:
            self._strips[y] = self._strip(self._rows[y])
        return self._strips[y]

    def notify_style_update(self) -> None:
        self._strips.clear()
        self._caption = ()
        self.call_next(self._write_caption)
        super().notify_style_update()

    def _write_caption(self) -> None:
        """Puts the title into the border, where it is another one."""
        if not self.is_framed:
            return
        caption = tuple(self.caption(self.size.width))
        if caption and not self.styles.border_left[0]:  # Textual pads a title between corners only
            caption = ((" ", ""), *caption, (" ", ""))
        if caption != self._caption:
            self._caption = caption
            parts = [(visible(text), self._title_style(style)) for text, style in caption]
            self.border_title = Content.assemble(*parts) if caption else None

    def _title_style(self, name: str) -> TitleStyle:
        """Returns the style of a part; that of the title itself depends on the focus."""
        if name in ("", "title"):
            return TitleStyle.null()
        return TitleStyle.from_rich_style(self._style(name))

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

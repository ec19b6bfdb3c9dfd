"""Draws how a round's values are spread, compared to another round: bars, outline, quantiles below.

Both show shares of their own number of values, so that rounds of different size compare. The data
is plain; it becomes heights of columns here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len

from halos_tui.charts.axis import NEAR, Axis, linear_axis
from halos_tui.charts.distribution import Distribution, densities
from halos_tui.charts.frame import draw_labels
from halos_tui.formatting import visible
from halos_tui.widgets.canvas import ASCII, Canvas, Row, Run
from halos_tui.widgets.painted import Painted

__all__ = ["Distribution", "Histogram", "draw_histogram"]

EIGHTHS = " ▁▂▃▄▅▆▇█"
OUTLINE = "▁─▔"
ASCII_OUTLINE = "_-"
BOX = ("╶", "─", "╴", "━", "┃")
ASCII_BOX = ("|", "-", "|", "=", "O")
MIN_HEIGHT_FOR_LABELS = 3
MIN_HEIGHT_FOR_TITLE = 4
MIN_HEIGHT_FOR_BOXES = 7


@dataclass(frozen=True)
class Part:
    """This is one distribution in the picture: its mark in the legend and the name of its style."""

    distribution: Distribution
    mark: str
    style: str


def draw_histogram(
    now: Distribution | None,
    first: Distribution | None,
    width: int,
    height: int,
    *,
    title: str = "",
    has_title: bool = True,
    is_ascii: bool = False,
) -> list[Row]:
    """Draws `now` as bars and `first` as an outline over them, with quantiles where there is room.

    The line of quantiles goes from q05 to q95, thick from q25 to q75, with a mark at q50.
    """
    canvas = Canvas(width, height, ASCII)
    parts = _parts(now, first, is_ascii=is_ascii)
    has_title = has_title and height >= MIN_HEIGHT_FOR_TITLE
    if has_title:
        _draw_title(canvas, title, parts)
    axis = _axis(parts, num_ticks=max(2, width // 10))
    if axis is None:
        note = "no values yet"
        canvas.write(max(0, (width - len(note)) // 2), height // 2, note[: max(0, width)], "muted")
        return canvas.rows()
    has_labels = height >= MIN_HEIGHT_FOR_LABELS
    boxes = [part for part in parts if part.distribution.quantiles]
    boxes = boxes if height >= MIN_HEIGHT_FOR_BOXES else []
    bottom = height - has_labels - len(boxes)
    _draw_bodies(canvas, parts, axis, top=int(has_title), bottom=bottom, is_ascii=is_ascii)
    for row, part in enumerate(boxes, bottom):
        _draw_box(canvas, row, part, axis, is_ascii=is_ascii)
    if has_labels:
        columns = [_column(axis, tick, width) for tick in axis.ticks]
        draw_labels(canvas, height - 1, columns, axis.labels())
    return canvas.rows()


class Histogram(Painted):
    """This widget repaints only the cells that change."""

    PREFIX = "histogram"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "histogram--title",
        "histogram--muted",
        "histogram--axis",
        "histogram--now",
        "histogram--first",
    }
    DEFAULT_CSS = """
    Histogram {
        .histogram--title { text-style: bold; }
        .histogram--muted, .histogram--axis { color: $text-muted; }
        .histogram--now { color: $accent; }
        .histogram--first { color: $warning; }
    }
    """

    def __init__(
        self,
        title: str = "",
        *,
        is_ascii: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._heading = title
        self._is_ascii = is_ascii
        self._now: Distribution | None = None
        self._first: Distribution | None = None

    def update(self, now: Distribution | None, first: Distribution | None = None) -> None:
        """Shows new bars and a new outline; None stands for one that does not exist."""
        self._now, self._first = now, first
        self.repaint()

    def painting(self, width: int, height: int) -> list[Row]:
        return draw_histogram(
            self._now,
            self._first,
            width,
            height,
            title=self._heading,
            has_title=not self.is_framed,
            is_ascii=self._is_ascii,
        )

    def caption(self, width: int) -> list[Run]:
        del width
        parts = _parts(self._now, self._first, is_ascii=self._is_ascii)
        return [
            (self._heading, "title"),
            *((f"  {part.mark} {part.distribution.name}", part.style) for part in parts),
        ]


def _parts(now: Distribution | None, first: Distribution | None, *, is_ascii: bool) -> list[Part]:
    bars, outline = ("#", "-") if is_ascii else ("█", "─")
    return [
        Part(distribution, mark, style)
        for distribution, mark, style in ((now, bars, "now"), (first, outline, "first"))
        if distribution is not None
    ]


def _axis(parts: list[Part], *, num_ticks: int) -> Axis | None:
    """Returns an axis from the least to the greatest value: the ends are real edges."""
    ends = [end for part in parts for end in part.distribution.ends]
    if not ends:
        return None
    return linear_axis(min(ends), max(ends), num_ticks=num_ticks, fixed=(True, True))


def _column(axis: Axis, value: float, width: int) -> int:
    return min(width - 1, max(0, math.floor(axis.scale.share(value) * width)))


def _draw_title(canvas: Canvas, title: str, parts: list[Part]) -> None:
    canvas.write(0, 0, visible(title), "title")
    column = cell_len(visible(title)) + 2 * bool(title)
    for part in parts:
        label = f"{part.mark} {visible(part.distribution.name)}"
        canvas.write(column, 0, label, part.style)
        column += cell_len(label) + 2


def _draw_bodies(
    canvas: Canvas, parts: list[Part], axis: Axis, *, top: int, bottom: int, is_ascii: bool
) -> None:
    rows = bottom - top
    low, high = axis.scale.low, axis.scale.high
    shares = [densities(part.distribution, low, high, canvas.width) for part in parts]
    highest = max((max(columns, default=0.0) for columns in shares), default=0.0)
    if rows < 1 or not highest:
        return
    for part, columns in zip(parts, shares, strict=True):
        for column, share in enumerate(columns):
            height = share / highest * rows
            if part.style == "now":
                _draw_bar(canvas, column, bottom, height, is_ascii=is_ascii)
            elif share:
                _draw_outline(canvas, column, bottom, height, is_ascii=is_ascii)


def _draw_bar(canvas: Canvas, column: int, bottom: int, height: float, *, is_ascii: bool) -> None:
    """Draws a bar; a value above 0 is at least the smallest piece high."""
    pieces = 1 if is_ascii else 8
    full, rest = divmod(max(math.ceil(min(height, 1)), round(height * pieces)), pieces)
    for row in range(full):
        canvas.write(column, bottom - 1 - row, "#" if is_ascii else EIGHTHS[-1], "now")
    if rest:
        canvas.write(column, bottom - 1 - full, EIGHTHS[rest], "now")


def _draw_outline(
    canvas: Canvas, column: int, bottom: int, height: float, *, is_ascii: bool
) -> None:
    """Draws where the bar would end, also across the bar of the other round."""
    glyphs = ASCII_OUTLINE if is_ascii else OUTLINE
    piece = max(0, math.ceil(height * len(glyphs) - NEAR) - 1)
    row, place = divmod(piece, len(glyphs))
    canvas.write(column, bottom - 1 - row, glyphs[place], "first")


def _draw_box(canvas: Canvas, row: int, part: Part, axis: Axis, *, is_ascii: bool) -> None:
    left, line, right, thick, middle = ASCII_BOX if is_ascii else BOX
    columns = {
        name: _column(axis, value, canvas.width)
        for name, value in part.distribution.quantiles.items()
        if math.isfinite(value)
    }
    if "q05" in columns and "q95" in columns:
        start, end = columns["q05"], columns["q95"]
        canvas.write(start, row, line * (end - start + 1), part.style)
        canvas.write(start, row, left, part.style)
        canvas.write(end, row, right, part.style)
    if "q25" in columns and "q75" in columns:
        start, end = columns["q25"], columns["q75"]
        canvas.write(start, row, thick * (end - start + 1), part.style)
    if "q50" in columns:
        canvas.write(columns["q50"], row, middle, part.style)

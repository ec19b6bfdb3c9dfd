"""Draws what stands around a plot: title, legend, axes with labels. It gives each part its room."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

from halos_tui.charts.axis import Axis
from halos_tui.formatting import clipped, visible
from halos_tui.widgets.canvas import Canvas

LegendEntry = tuple[str, str, str, str]
"""An entry of a legend has marker, name, value and style."""
MIN_WIDTH_FOR_LABELS = 16
MIN_HEIGHT_FOR_LABELS = 4
MIN_HEIGHT_FOR_LEGEND = 7
MIN_HEIGHT_FOR_AXIS = 12
MIN_NAME = 3
"""Names of a legend are not clipped to less."""
GAP = 2
"""So many cells are between the parts of a header."""


@dataclass(frozen=True)
class Frame:
    """Says where the plot lies: `left` and `top` are the cells before it, `bottom` those below."""

    width: int
    height: int
    left: int = 0
    top: int = 0
    bottom: int = 0
    has_legend_row: bool = False
    y_labels: tuple[str, ...] = ()

    @property
    def plot_width(self) -> int:
        return max(0, self.width - self.left)

    @property
    def plot_height(self) -> int:
        return max(0, self.height - self.top - self.bottom)

    @property
    def has_axis_row(self) -> bool:
        return self.bottom > 1

    @classmethod
    def of(cls, width: int, height: int, *, num_named: int, has_title: bool = True) -> Frame:
        """Returns the frame before the labels of the y axis are known, which need the plot's
        height.
        """
        has_legend_row = num_named > 1 and height >= MIN_HEIGHT_FOR_LEGEND
        has_labels = height >= MIN_HEIGHT_FOR_LABELS and width >= MIN_WIDTH_FOR_LABELS
        return cls(
            width,
            height,
            top=int(has_title and height > 1) + has_legend_row,
            bottom=has_labels + (has_labels and height >= MIN_HEIGHT_FOR_AXIS),
            has_legend_row=has_legend_row,
        )

    def with_labels(self, labels: Sequence[str]) -> Frame:
        """Returns the frame with room for the labels left of the plot, unless that leaves too
        little for it.
        """
        room = max(map(cell_len, labels), default=0) + 1
        if self.width < MIN_WIDTH_FOR_LABELS or self.plot_height < 2 or room * 2 > self.width:
            return self
        return replace(self, left=room, y_labels=tuple(labels))


def draw_header(
    canvas: Canvas, frame: Frame, title: str, legend: Sequence[LegendEntry], cursor: str
) -> None:
    """Draws title, legend with values, and cursor; all in one row where there is no second one."""
    column = 0
    if frame.has_legend_row:
        _draw_legend(canvas, 0, frame.top - 1, legend)
    if frame.top == frame.has_legend_row:
        return
    column = _after(_write(canvas, 0, 0, visible(title), "title"))
    if not frame.has_legend_row:
        column = _draw_legend(canvas, column, 0, legend)
    if column + cell_len(visible(cursor)) <= canvas.width:
        _write(canvas, column, 0, visible(cursor), "cursor")


def _draw_legend(canvas: Canvas, column: int, row: int, legend: Sequence[LegendEntry]) -> int:
    """Draws the legend, as many entries as fit; without names where there is no room to tell them
    apart. Returns the column after the last one.
    """
    room = canvas.width - column + GAP
    room -= sum(cell_len(glyph) + cell_len(value) + 2 + GAP for glyph, _, value, _ in legend)
    names = tuple(visible(name) for _, name, _, _ in legend)
    lengths = [cell_len(name) for name in names]
    longest = max(lengths, default=0)
    while longest > 0 and sum(min(longest, length) for length in lengths) > room:
        longest -= 1
    short = told_apart(names, longest)
    if len(set(short)) < len(set(names)):
        short = ("",) * len(names)
    for (glyph, _, value, style), name in zip(legend, short, strict=True):
        label = " ".join(part for part in (glyph, _clipped(name, longest)) if part)
        if column + cell_len(label) + bool(label) + cell_len(value) > canvas.width:
            return column
        column = _write(canvas, column, row, label, style)
        column = _after(_write(canvas, column + bool(label), row, value, "value"))
    return column


@lru_cache(maxsize=64)
def told_apart(names: tuple[str, ...], width: int) -> tuple[str, ...]:
    """Shortens names to at most `width` characters so that what differs between them stays.

    All lose the same part of their middle, `dpo…lr1e-6-a` and `dpo…lr3e-6-a`, or both ends where
    they differ deep inside.
    """
    if max(map(len, names), default=0) <= width:
        return names
    if len(names) == 1 or width < MIN_NAME:
        return tuple(clipped(name, width)[: max(0, width)] for name in names)
    letters = enumerate(zip(*names, strict=False))
    same = next((place for place, here in letters if len(set(here)) > 1), min(map(len, names)))
    inside = range(max(1, same + 3 - width), same + 1)
    found = [
        *(_without_middle(names, width, head) for head in range(width)),
        *(_from_inside(names, width, start) for start in inside),
        *_only_differing(names, width),
    ]
    return max(found)[1]


Shortened = tuple[tuple[int, ...], tuple[str, ...]]
"""It says how good shortened names are, and has them."""


def _without_middle(names: tuple[str, ...], width: int, head: int) -> Shortened:
    tail = width - 1 - head
    short = tuple(
        name if len(name) <= width else f"{name[:head]}…{name[len(name) - tail :]}"
        for name in names
    )
    whole = sum(_is_between(name, head) + _is_between(name, len(name) - tail) for name in names)
    return (len(set(short)), 1, whole, -abs(head - tail)), short


def _from_inside(names: tuple[str, ...], width: int, start: int) -> Shortened:
    end = start + width - 2
    short = tuple(name if len(name) <= width else f"…{name[start:end]}…" for name in names)
    whole = sum(_is_between(name, start) + _is_between(name, end) for name in names)
    return (len(set(short)), 0, whole, start), short


def _only_differing(names: tuple[str, ...], width: int) -> Iterator[Shortened]:
    """Yields the words that differ, where all names have as many of them: `lr1e…r2`."""
    rows = [re.split(r"[\W_]", name) for name in names]
    if len(set(map(len, rows))) == 1:
        differing = [words for words in zip(*rows, strict=True) if len(set(words)) > 1]
        short = tuple("…".join(words) for words in zip(*differing, strict=True))
        if max(map(len, short), default=width + 1) <= width:
            yield (len(set(short)), 0, 0, 0), short


def _is_between(name: str, place: int) -> bool:
    """Says whether a place is between two words of a name, or at one of its ends."""
    if not 0 < place < len(name):
        return True
    return not (name[place - 1].isalnum() and name[place].isalnum())


def draw_axes(
    canvas: Canvas, frame: Frame, x_axis: Axis, y_axis: Axis, *, x_labels: list[str], is_ascii: bool
) -> None:
    """Draws the axes with ticks and labels, or nothing where the frame has no room for them."""
    upright, notch, corner, flat, tick = "|++-+" if is_ascii else "│┤└─┬"
    if frame.left:
        for row in range(frame.plot_height):
            canvas.write(frame.left - 1, frame.top + row, upright, "axis")
        for value, label in zip(y_axis.ticks, frame.y_labels, strict=True):
            row = frame.top + _cell_of(
                1 - y_axis.scale.share(value), frame.plot_height, canvas.raster.high
            )
            canvas.write(frame.left - 1 - cell_len(label), row, label, "axis")
            canvas.write(frame.left - 1, row, notch, "axis")
    if not frame.bottom:
        return
    shares = [x_axis.scale.share(x) for x in x_axis.ticks]
    columns = [
        frame.left + _cell_of(share, frame.plot_width, canvas.raster.wide) for share in shares
    ]
    if frame.has_axis_row:
        row = frame.top + frame.plot_height
        canvas.write(frame.left, row, flat * frame.plot_width, "axis")
        for column in columns:
            canvas.write(column, row, tick, "axis")
        if frame.left:
            canvas.write(frame.left - 1, row, corner, "axis")
    draw_labels(canvas, frame.height - 1, columns, x_labels, left=frame.left)


def draw_labels(
    canvas: Canvas, row: int, columns: Sequence[int], labels: Sequence[str], *, left: int = 0
) -> None:
    """Centres texts under columns, moves them inwards at the ends, and leaves out one too close.

    The last one is sure of its place.
    """
    starts = [
        max(left, min(column - (cell_len(label) - 1) // 2, canvas.width - cell_len(label)))
        for column, label in zip(columns, labels, strict=True)
    ]
    free = left
    for index, (start, label) in enumerate(zip(starts, labels, strict=True)):
        is_last = index == len(labels) - 1
        end = start + cell_len(label)
        if start >= free and (is_last or end < starts[-1]):
            canvas.write(start, row, label, "axis")
            free = end + 1


def _write(canvas: Canvas, column: int, row: int, text: str, style: str) -> int:
    """Writes a text, clipped at the right edge. Returns the column after it."""
    shown = _clipped(text, canvas.width - column)
    canvas.write(column, row, shown, style)
    return column + cell_len(shown)


def _clipped(text: str, width: int) -> str:
    """Clips a text to a width in cells; the last cell is an ellipsis where something was left
    out.
    """
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""


def _after(column: int) -> int:
    """Returns the column where the next thing in the row may begin."""
    return column + GAP if column else 0


def _cell_of(share: float, size: int, dots: int) -> int:
    """Returns the cell, of `size` with `dots` dots each, of a dot at this share of the way."""
    return math.floor(share * (size * dots - 1) + 0.5) // dots

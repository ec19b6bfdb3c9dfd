"""Owns a canvas of cells: dots finer than a cell, marks and text, each with the name of a style.

Dots are braille (2 by 4 in a cell), quadrant blocks (2 by 2) or ASCII (1 by 2). What a style name
looks like is the widget's business. Everything outside the canvas is left out without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import split_graphemes

Cell = tuple[str, str]
"""A cell has its text and the name of its style; the right half of a wide character is empty."""
Row = tuple[Cell, ...]
Run = tuple[str, str]
"""A run is a text and the name of its style."""

BLANK: Cell = (" ", "")
FAR = 1e9
"""Dots further out than this are drawn as if they were here."""


@dataclass(frozen=True)
class Raster:
    """Says how dots fill a cell: `bits[y][x]` of a dot, and the glyph of every sum of bits."""

    bits: tuple[tuple[int, ...], ...]
    glyphs: str

    @property
    def wide(self) -> int:
        return len(self.bits[0])

    @property
    def high(self) -> int:
        return len(self.bits)


BRAILLE = Raster(
    ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80)),
    "".join(chr(0x2800 + bits) for bits in range(256)),
)
BLOCKS = Raster(((1, 2), (4, 8)), " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█")
ASCII = Raster(((1,), (2,)), " '.:")


class Canvas:
    """Has `width` by `height` cells. Cells and dots count from the top left corner."""

    def __init__(self, width: int, height: int, raster: Raster = BRAILLE) -> None:
        self.width = max(0, width)
        self.height = max(0, height)
        self.raster = raster
        self.dots_wide = self.width * raster.wide
        self.dots_high = self.height * raster.high
        self._cells: list[list[Cell]] = [[BLANK] * self.width for _ in range(self.height)]
        self._dots: list[dict[int, tuple[int, str]]] = [{} for _ in range(self.height)]

    def dot(self, x: int, y: int, style: str) -> None:
        """Draws a dot; the whole cell takes on the style."""
        if not (0 <= x < self.dots_wide and 0 <= y < self.dots_high):
            return
        bits = self.raster.bits
        column, right = divmod(x, len(bits[0]))
        row, down = divmod(y, len(bits))
        before = self._dots[row].get(column, (0, ""))[0]
        self._dots[row][column] = (before | bits[down][right], style)

    def line(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """Draws between two dots; nothing where a coordinate is not finite."""
        if not (self.width and self.height and math.isfinite(sum(start) + sum(end))):
            return
        bits, dots = self.raster.bits, self._dots
        wide, high = self.raster.wide, self.raster.high
        for x, y in _dots_between(start, end, self.dots_wide - 1, self.dots_high - 1):
            row, column = dots[y // high], x // wide
            before = row[column][0] if column in row else 0
            row[column] = (before | bits[y % high][x % wide], style)

    def polyline(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Draws through all dots; one that is not finite leaves a gap."""
        last = (math.nan, math.nan)
        for point in points:
            if not math.isfinite(last[0] + last[1]):
                self.line(point, point, style)
            self.line(last, point, style)
            last = point

    def shade(self, x: int, top: float, bottom: float, style: str) -> None:
        """Draws a column of sparse dots from `top` to `bottom`; neighbours make an even pattern."""
        if not (math.isfinite(top) and math.isfinite(bottom)):
            return
        first = math.ceil(min(max(top, 0), self.dots_high))
        for y in range(first, math.floor(min(bottom, self.dots_high - 1)) + 1):
            if y % 2 == 0 and (x + y // 2) % 2 == 0:
                self.dot(x, y, style)

    def vertical(self, column: int, glyph: str, style: str) -> None:
        """Draws a mark through all blank cells of a column."""
        for row in range(self.height):
            if self.is_blank(column, row):
                self.write(column, row, glyph, style)

    def horizontal(self, row: int, glyph: str, style: str) -> None:
        """Draws a mark through all blank cells of a row."""
        for column in range(self.width):
            if self.is_blank(column, row):
                self.write(column, row, glyph, style)

    def is_blank(self, column: int, row: int) -> bool:
        """Says whether a cell is blank; one outside of the canvas is not."""
        is_inside = 0 <= column < self.width and 0 <= row < self.height
        return (
            is_inside and column not in self._dots[row] and self._cells[row][column][0] in (" ", "")
        )

    def write(self, column: int, row: int, text: str, style: str) -> None:
        """Writes over what is there. A wide character that does not fit as a whole leaves a
        blank.
        """
        if not 0 <= row < self.height:
            return
        for glyph, width in _glyphs(text):
            if width and column >= 0 and column + width <= self.width:
                self._put(column, row, glyph, width, style)
            elif width == 2 and 0 <= column < self.width:
                self._put(column, row, " ", 1, style)
            column += width

    def rows(self) -> list[Row]:
        return [
            tuple(
                self._dotted(*dots[column]) if cell == BLANK and (column in dots) else cell
                for column, cell in enumerate(cells)
            )
            for cells, dots in zip(self._cells, self._dots, strict=True)
        ]

    def _dotted(self, bits: int, style: str) -> Cell:
        return self.raster.glyphs[bits], style

    def _put(self, column: int, row: int, glyph: str, width: int, style: str) -> None:
        cells = self._cells[row]
        if cells[column][0] == "" and column:
            cells[column - 1] = (" ", cells[column - 1][1])
        after = column + width
        if after < self.width and cells[after][0] == "":
            cells[after] = (" ", cells[after][1])
        cells[column] = (glyph, style)
        if width == 2:
            cells[column + 1] = ("", style)


def runs(row: Sequence[Cell]) -> list[Run]:
    """Joins neighbours of one style."""
    found: list[Run] = []
    for glyph, style in row:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + glyph, style)
        else:
            found.append((glyph, style))
    return found


def changed_span(old: Row, new: Row) -> tuple[int, int] | None:
    """Returns the first and the last column + 1 in which two rows of one width differ; None for
    none.
    """
    columns = [
        column
        for column, (before, after) in enumerate(zip(old, new, strict=True))
        if before != after
    ]
    if not columns:
        return None
    start, end = columns[0], columns[-1] + 1
    while end < len(new) and new[end][0] == "":
        end += 1
    return start - (new[start][0] == ""), end


def text_of(rows: Iterable[Row]) -> list[str]:
    """Returns the rows without their styles."""
    return ["".join(glyph for glyph, _ in row) for row in rows]


def _glyphs(text: str) -> list[tuple[str, int]]:
    """Returns what a person sees as characters, and the cells of each; at most 2."""
    if text.isascii():
        return [(character, 1) for character in text]
    return [(text[start:end], min(2, width)) for start, end, width in split_graphemes(text)[0]]


def _dots_between(
    start: tuple[float, float], end: tuple[float, float], right: int, bottom: int
) -> Iterable[tuple[int, int]]:
    """Yields the dots of a line inside the rectangle from (0, 0) to (right, bottom), both
    included.
    """
    (x0, y0), (x1, y1) = start, end
    if not (0 <= x0 <= right and 0 <= x1 <= right and 0 <= y0 <= bottom and 0 <= y1 <= bottom):
        x0, y0, x1, y1 = (max(-FAR, min(FAR, place)) for place in (x0, y0, x1, y1))
        shares = _inside(x0, y0, x1 - x0, y1 - y0, right, bottom)
        if shares is None:
            return
        first, last = shares
        x0, x1 = x0 + first * (x1 - x0), x0 + last * (x1 - x0)
        y0, y1 = y0 + first * (y1 - y0), y0 + last * (y1 - y0)
    steps = max(abs(_near(x1) - _near(x0)), abs(_near(y1) - _near(y0))) or 1
    across, down = (x1 - x0) / steps, (y1 - y0) / steps
    near = math.floor
    for step in range(steps + 1):
        yield near(x0 + step * across + 0.5), near(y0 + step * down + 0.5)


def _inside(
    x: float, y: float, dx: float, dy: float, right: int, bottom: int
) -> tuple[float, float] | None:
    """Returns the shares of a line between which it is inside (Liang and Barsky 1984); None:
    nowhere.
    """
    first, last = 0.0, 1.0
    for move, room in ((-dx, x), (dx, right - x), (-dy, y), (dy, bottom - y)):
        if move == 0:
            if room < 0:
                return None
        elif move < 0:
            first = max(first, room / move)
        else:
            last = min(last, room / move)
    return (first, last) if first <= last else None


def _near(place: float) -> int:
    """Returns the nearest dot; halves go down the screen, so that neighbours round alike."""
    return math.floor(place + 0.5)

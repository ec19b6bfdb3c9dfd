"""Lays text out in cells: made visible, marked, wrapped or cropped.

It is slow for long texts, so it belongs into a thread. A run is a text with the name of its style,
a line is runs beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, split_graphemes

from halos_tui.formatting import visible_lines

Run = tuple[str, str]
Line = tuple[Run, ...]
Span = tuple[int, int]
"""A span is (start, end) in characters."""

TAB = "    "


@dataclass(frozen=True)
class Page:
    """Holds lines to read; `starts` are those at which its parts begin."""

    lines: tuple[Line, ...] = ()
    starts: tuple[int, ...] = ()


def shown(text: str, *, is_ascii: bool = False) -> str:
    """Returns what a terminal can be given, line breaks kept; in ASCII other characters are
    escapes.
    """
    plain = visible_lines(text).replace("\t", TAB)
    return plain.encode("ascii", "backslashreplace").decode() if is_ascii else plain


def marked(text: str, spans: Iterable[Span], *, style: str, base: str = "") -> list[Run]:
    """Puts another style on the `spans` of a text, which are in order and do not overlap."""
    found: list[Run] = []
    position = 0
    for start, end in spans:
        found += [(text[position:start], base), (text[start:end], style)]
        position = end
    found.append((text[position:], base))
    return [run for run in found if run[0]]


def laid_out(
    found: Iterable[Run], width: int, *, is_ascii: bool = False, indent: int = 0
) -> list[Line]:
    """Lays runs of any text out as lines of at most `width` cells, broken between words if
    possible.
    """
    room = max(1, width - indent)
    margin: Line = ((" " * indent, ""),) if indent else ()
    plain = [(shown(text, is_ascii=is_ascii), style) for text, style in found]
    return [margin + line for logical in _split(plain) for line in _wrapped(logical, room)]


def cropped(found: Sequence[Run], start: int, width: int) -> Line:
    """Returns the cells [start, start + width) of a line; half a wide character is a blank."""
    kept: list[Run] = []
    column = 0
    for text, style in found:
        if text.isascii():
            piece = text[max(0, start - column) : max(0, start + width - column)]
            column += len(text)
        else:
            piece, column = _cropped_text(text, column, start, start + width)
        if piece:
            kept.append((piece, style))
        if column >= start + width:
            break
    return tuple(kept)


def num_cells(line: Iterable[Run]) -> int:
    return sum(cell_len(text) for text, _ in line)


def filled(line: Iterable[Run], width: int, style: str) -> Line:
    """Fills the line in one style up to the edge."""
    text = "".join(piece for piece, _ in line)
    return ((text + " " * (width - cell_len(text)), style),)


def row_spans(text: str, width: int) -> list[Span]:
    """Returns where a text without line breaks is broken to fit; the blank at a break is left
    out.
    """
    sizes = None if text.isascii() else _Sizes(text)
    spans: list[Span] = []
    start = 0
    while True:
        end = min(len(text), start + width) if sizes is None else sizes.fitting(start, width)
        if end >= len(text):
            spans.append((start, len(text)))
            return spans
        blank = text.rfind(" ", start, end + 1)
        if blank > start and text[start:blank].strip():
            spans.append((start, blank))
            start = blank + 1
        else:
            spans.append((start, end))
            start = end


class _Sizes:
    """Knows the cells of each character a person sees, of one text that is gone through once."""

    def __init__(self, text: str) -> None:
        self._glyphs = split_graphemes(text)[0]
        self._place = 0

    def fitting(self, start: int, width: int) -> int:
        """Returns the end of what fits into `width` cells from `start` on; at least one
        character.
        """
        while self._place and self._glyphs[self._place - 1][1] > start:
            self._place -= 1
        while self._place < len(self._glyphs) and self._glyphs[self._place][0] < start:
            self._place += 1
        room, end = width, start
        while self._place < len(self._glyphs):
            _, stop, cells = self._glyphs[self._place]
            if cells > room and end > start:
                break
            room, end = room - cells, stop
            self._place += 1
        return end


def _split(found: Sequence[Run]) -> Iterator[list[Run]]:
    """Splits at line breaks; text without any is one line."""
    line: list[Run] = []
    for text, style in found:
        first, *others = text.split("\n")
        line.append((first, style))
        for other in others:
            yield line
            line = [(other, style)]
    yield line


def _wrapped(found: Sequence[Run], width: int) -> Iterator[Line]:
    text = "".join(piece for piece, _ in found)
    for start, end in row_spans(text, width):
        yield _cut(found, start, end)


def _cut(found: Sequence[Run], start: int, end: int) -> Line:
    """Returns the characters [start, end) of a line."""
    kept: list[Run] = []
    place = 0
    for text, style in found:
        piece = text[max(0, start - place) : max(0, end - place)]
        if piece:
            kept.append((piece, style))
        place += len(text)
        if place >= end:
            break
    return tuple(kept)


def _cropped_text(text: str, column: int, start: int, end: int) -> tuple[str, int]:
    """Returns what of a text that begins at `column` is in the cells [start, end), and where it
    ends.
    """
    kept: list[str] = []
    for begin, stop, cells in split_graphemes(text)[0]:
        if column >= end:
            break
        if column >= start and column + cells <= end:
            kept.append(text[begin:stop])
        elif column + cells > start:
            kept.append(" " * (min(end, column + cells) - max(start, column)))
        column += cells
    return "".join(kept), column

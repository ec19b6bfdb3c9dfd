"""Filters each line last: what a terminal without colours, with 16, or without Unicode can show.

They see every cell of every screen, Textual's own widgets too, so nothing gets past them.
"""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len, split_graphemes
from rich.color import Color as RichColor
from rich.color import ColorSystem, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

ON_DEFAULT = Style(bgcolor="default")
ASCII_BOXES = {
    **dict.fromkeys("─━═╌╍┄┅┈┉╴╶╸╺╼╾▔▁⎯", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋╵╷╹╻╽╿▏▕⎸⎹", "|"),
    **dict.fromkeys("█▉▊▋▌▐▇▆▅▄▃▂▀▙▛▜▟■▪◼●⬤", "#"),
    **dict.fromkeys("▎▍░▒▓▖▗▘▝▚▞•·…⋯", "."),
    **dict.fromkeys("▲△▴▵↑⭡", "^"),
    **dict.fromkeys("▼▽▾▿↓⭣", "v"),
    **dict.fromkeys("▶▷▸▹❯›→⏵⭢⏎", ">"),
    **dict.fromkeys("◀◁◂◃❮‹←⏴⭠", "<"),
    **dict.fromkeys("✓✔", "+"),
    **dict.fromkeys("✗✘✕×✖", "x"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("–—‐", "-"),
    **dict.fromkeys("○◯◌□▫", "o"),
    "\xa0": " ",
}
"""Joints of boxes become a plus, braille a colon, all else that is not ASCII a question mark."""


class NoColours(LineFilter):
    """Only attributes stay: bold, reverse, underlined, dim."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            Segment(text, None if style is None else without_colours(style), control)
            for text, style, control in segments
        ]


class TerminalsBackground(LineFilter):
    """It leaves cells of the terminal's background to the terminal, which then shows its own colour
    exactly, whatever number of colours it has.
    """

    colour: RichColor | None = None

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            Segment(text, style + ON_DEFAULT, control)
            if style is not None and style.bgcolor == self.colour is not None
            else Segment(text, style, control)
            for text, style, control in segments
        ]


class SixteenColours(LineFilter):
    """The terminal's own palette stays: a blended colour becomes the nearest of its colours."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            Segment(text, None if style is None else in_sixteen(style), control)
            for text, style, control in segments
        ]


class AsciiOnly(LineFilter):
    """Every character becomes ASCII in as many cells as before."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            segment if segment.text.isascii() else Segment(in_ascii(segment.text), *segment[1:])
            for segment in segments
        ]


@lru_cache(1024)
def without_colours(style: Style) -> Style:
    return style.without_color


@lru_cache(1024)
def in_sixteen(style: Style) -> Style:
    """Returns the same style in ANSI colours."""
    return style + Style.from_color(_ansi(style.color), _ansi(style.bgcolor))


@lru_cache(4096)
def in_ascii(text: str) -> str:
    """Returns a text of the same width. Several characters that make one glyph become one."""
    return "".join(
        _ascii_glyph(text[start:end], width) for start, end, width in split_graphemes(text)[0]
    )


def _ansi(colour: RichColor | None) -> RichColor | None:
    if colour is None or colour.type in (ColorType.DEFAULT, ColorType.STANDARD):
        return colour
    return colour.downgrade(ColorSystem.STANDARD)


def _ascii_glyph(glyph: str, width: int) -> str:
    if glyph.isascii():
        return glyph
    first = glyph[0]
    if first in ASCII_BOXES:
        found = ASCII_BOXES[first]
    elif "\u2500" <= first <= "\u257f":
        found = "+"
    elif "\u2800" <= first <= "\u28ff":
        found = " " if first == "\u2800" else ":"
    else:
        found = "?"
    return found.ljust(min(width, cell_len(glyph)))[: max(0, width)]

"""Draws screens of a terminal as SVG: one of them, or several one after another.

Text is text. Borders, bars and charts are shapes that fill their cells, as terminals draw them, so
that they have no gaps in any font.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from pyte.screens import Char

WIDTH, HEIGHT = 9, 18
"""They are the size of a cell in pixels; a character of 15 pixels is 9 wide in most fonts."""
BASELINE = 13.5
MARGIN = 12
STYLE = """
text{font:15px 'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace}
.b{font-weight:bold}.i{font-style:italic}.u{text-decoration:underline}.m{text-anchor:middle}
rect{shape-rendering:crispEdges}path{fill:none;stroke-width:1.2}
.h{stroke-width:2.4}.d{stroke-width:2.8;stroke-linecap:round}
"""
INK, GROUND = "#d0d0d0", "#1c1c1c"
"""They stand for a terminal's own colours."""
NAMED = {
    "black": "#000000",
    "red": "#cd3131",
    "green": "#0dbc79",
    "brown": "#e5e510",
    "blue": "#2472c8",
    "magenta": "#bc3fbc",
    "cyan": "#11a8cd",
    "white": "#e5e5e5",
}
"""Maps pyte's names of the colours that a terminal chooses."""
ARMS = {
    "─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "├": "udr", "┤": "udl",
    "┬": "lrd", "┴": "lru", "┼": "lrud", "╴": "l", "╵": "u", "╶": "r", "╷": "d",
    "━": "lr", "┃": "ud", "╸": "l", "╺": "r",
}  # fmt: skip
HEAVY = "━┃╸╺"
ARCS = {
    "╭": "M4.5 18v-4.5q0-4.5 4.5-4.5",
    "╮": "M4.5 18v-4.5q0-4.5-4.5-4.5",
    "╰": "M4.5 0v4.5q0 4.5 4.5 4.5",
    "╯": "M4.5 0v4.5q0 4.5-4.5 4.5",
}
ARM_PATHS = {"l": "M0 9h4.5", "r": "M4.5 9h4.5", "u": "M4.5 0v9", "d": "M4.5 9v9"}
QUADRANTS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
"""The bits of a place are its quarters: upper left, upper right, lower left, lower right."""
SHADES = {"░": 0.25, "▒": 0.5, "▓": 0.75}
FIRST_BRAILLE, LAST_BRAILLE = 0x2800, 0x28FF
BRAILLE = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Lists column and row of the dot that each bit stands for."""
WORDS = re.compile(r"\S+(?: {1,2}\S+)*")
Box = tuple[float, float, float, float]
"""A box has left, top, width and height, as shares of a cell."""


class Look(NamedTuple):
    """Says how a cell is painted; `classes` are those of its text."""

    ink: str
    ground: str
    classes: str


class Cell(NamedTuple):
    """Is a place on the screen; the right half of a wide character has no text."""

    text: str
    look: Look


Row = tuple[Cell, ...]


class Frame(NamedTuple):
    """Is a screen, what stands below it, and how long both are seen."""

    rows: tuple[Row, ...]
    caption: str = ""
    shown_s: float = 1.0


def rows_of(lines: Sequence[Sequence[Char]]) -> tuple[Row, ...]:
    return tuple(tuple(_cell(char) for char in line) for line in lines)


def _cell(char: Char) -> Cell:
    ink, ground = _colour(char.fg, INK), _colour(char.bg, GROUND)
    if char.reverse:
        ink, ground = ground, ink
    marks = (("b", char.bold), ("i", char.italics), ("u", char.underscore))
    return Cell(char.data, Look(ink, ground, " ".join(name for name, is_on in marks if is_on)))


def _colour(name: str, default: str) -> str:
    return default if name == "default" else NAMED.get(name) or f"#{name}"


def text_of(row: Row) -> str:
    return "".join(cell.text for cell in row)


def picture(frame: Frame, title: str) -> str:
    """Returns the SVG of one screen."""
    ground = ground_of(frame)
    lines = (
        f'<g transform="translate(0 {y * HEIGHT})">{row_svg(row, ground)}</g>'
        for y, row in enumerate(frame.rows)
    )
    return _window(frame, title, "\n".join(lines), "")


def animation(frames: Sequence[Frame], title: str) -> str:
    """Returns an SVG that shows all frames in turn without an end.

    Lines that are equal stand in it once.
    """
    ground = ground_of(frames[0])
    names: dict[Row, str] = {}
    shown = []
    for number, frame in enumerate(frames):
        lines = [
            f'<use href="#{names.setdefault(row, f"r{len(names)}")}" y="{y * HEIGHT}"/>'
            for y, row in enumerate(frame.rows)
        ]
        shown.append(f'<g class="f" id="f{number}">{"".join(lines)}{_caption(frame)}</g>')
    known = (f'<g id="{name}">{row_svg(row, ground)}</g>' for row, name in names.items())
    body = ["<defs>", *known, "</defs>", *shown]
    return _window(frames[0], title, "\n".join(body), turns([frame.shown_s for frame in frames]))


def turns(times_s: Sequence[float]) -> str:
    """Returns the style that shows each frame for its time; the first where nothing may move."""
    total = sum(times_s)
    rules = [".f{visibility:hidden}#f0{visibility:visible}"]
    begin = 0.0
    rules.append("@media(prefers-reduced-motion:no-preference){")
    for number, time_s in enumerate(times_s):
        end = begin + time_s
        steps = {0.0: "hidden"} | {100 * begin / total: "visible"}
        if number < len(times_s) - 1:
            steps[100 * end / total] = "hidden"
        inside = "".join(f"{at:.3f}%{{visibility:{seen}}}" for at, seen in steps.items())
        rules.append(f"#f{number}{{animation:k{number} {total:g}s step-end infinite}}")
        rules.append(f"@keyframes k{number}{{{inside}}}")
        begin = end
    return "".join([*rules, "}"])


def ground_of(frame: Frame) -> str:
    """Returns the background of most cells, which the window has, too."""
    grounds = [cell.look.ground for row in frame.rows for cell in row]
    return max(sorted(set(grounds)), key=grounds.count)


def _window(frame: Frame, title: str, body: str, style: str) -> str:
    width = len(frame.rows[0]) * WIDTH + 2 * MARGIN
    height = (len(frame.rows) + 2 * bool(frame.caption)) * HEIGHT + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' xml:space="preserve">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n"
        f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="8"'
        f' fill="{ground_of(frame)}" stroke="#888888"/>\n'
        f'<g transform="translate({MARGIN} {MARGIN})">\n{body}\n</g>\n</svg>\n'
    )


def _caption(frame: Frame) -> str:
    y = (len(frame.rows) + 1) * HEIGHT + BASELINE
    return f'<text class="b" y="{y}" fill="{INK}">{escape(frame.caption)}</text>'


def row_svg(row: Row, ground: str) -> str:
    """Draws a line of cells: what lies behind them, shapes, text."""
    return "".join((*_grounds(row, ground), *_shapes(row), *_texts(row)))


def _grounds(row: Row, ground: str) -> Iterator[str]:
    for x, length, cell in _runs(row, lambda cell: cell.look.ground):
        if cell.look.ground != ground:
            size = f'width="{length * WIDTH}" height="{HEIGHT}"'
            yield f'<rect x="{x * WIDTH}" {size} fill="{cell.look.ground}"/>'


def _shapes(row: Row) -> Iterator[str]:
    strokes: dict[tuple[str, str], list[str]] = {}
    for x, length, cell in _runs(row, lambda cell: (cell.text, cell.look)):
        left, ink = x * WIDTH, cell.look.ink
        for kind, path in _strokes(cell.text, left, length):
            strokes.setdefault((kind, ink), []).append(path)
        for box_left, top, width, height in _boxes(cell.text):
            across = length if width == 1 else 1
            for number in range(length // across):
                at = (left + (number + box_left) * WIDTH, top * HEIGHT)
                size = (width * across * WIDTH, height * HEIGHT)
                yield _rect(at, size, ink, SHADES.get(cell.text, 1.0))
    for (kind, ink), paths in strokes.items():
        classes = f' class="{kind}"' if kind else ""
        yield f'<path{classes} stroke="{ink}" d="{"".join(paths)}"/>'


def _rect(at: tuple[float, float], size: tuple[float, float], ink: str, opacity: float) -> str:
    faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    place = f'x="{at[0]:g}" y="{at[1]:g}" width="{size[0]:g}" height="{size[1]:g}"'
    return f'<rect {place} fill="{ink}"{faint}/>'


def _strokes(text: str, left: int, length: int) -> Iterator[tuple[str, str]]:
    """Yields the class and the path of what is drawn with a pen in equal cells side by side."""
    kind = "h" if text in HEAVY else ""
    if ARMS.get(text) == "lr":
        yield kind, f"M{left} 9h{length * WIDTH}"
        return
    for number in range(length):
        start = left + number * WIDTH
        for path in [ARCS[text]] if text in ARCS else map(ARM_PATHS.get, ARMS.get(text, "")):
            yield kind, _moved(path or "", start)
        for column, down in _dots(text):
            yield "d", f"M{start + 2.25 + 4.5 * column:g} {2.25 + 4.5 * down:g}h.01"


def _moved(path: str, left: int) -> str:
    """Returns the path, whose only absolute place is its start, at another place."""
    start, rest = path[1:].split(" ", 1)
    return f"M{float(start) + left:g} {rest}"


def _dots(text: str) -> Iterator[tuple[int, int]]:
    if len(text) == 1 and FIRST_BRAILLE <= ord(text) <= LAST_BRAILLE:
        bits = ord(text) - FIRST_BRAILLE
        yield from (place for bit, place in enumerate(BRAILLE) if bits >> bit & 1)


def _boxes(text: str) -> list[Box]:
    """Returns the boxes that a block element is made of."""
    if text in SHADES or text == "█":
        return [(0, 0, 1, 1)]
    if text in QUADRANTS and text.strip():
        bits = QUADRANTS.index(text)
        return [(bit % 2 / 2, bit // 2 / 2, 0.5, 0.5) for bit in range(4) if bits >> bit & 1]
    if len(text) == 1 and "▁" <= text <= "▇":
        height = (ord(text) - ord("▀")) / 8
        return [(0, 1 - height, 1, height)]
    if len(text) == 1 and "▉" <= text <= "▏":
        return [(0, 0, 1 - (ord(text) - ord("█")) / 8, 1)]
    return {"▔": [(0.0, 0.0, 1.0, 0.125)], "▕": [(0.875, 0.0, 0.125, 1.0)]}.get(text, [])


def is_shape(text: str) -> bool:
    return text in ARMS or text in ARCS or bool(_boxes(text)) or any(_dots(text))


def _texts(row: Row) -> Iterator[str]:
    """Yields words of one look; what fonts may lack or draw wider stands alone in its cells."""
    for x, length, cell in _runs(row, lambda cell: (_kind(cell.text), cell.look)):
        match _kind(cell.text):
            case "ascii":
                text = text_of(row[x : x + length])
                for words in WORDS.finditer(text):
                    yield _text(words[0], x + words.start(), cell.look)
            case "alone":
                for number, alone in enumerate(row[x : x + length], x):
                    is_wide = row[number + 1 : number + 2] and not row[number + 1].text
                    middle = (number + (1 if is_wide else 0.5)) * WIDTH
                    look = cell.look._replace(classes=f"{cell.look.classes} m".strip())
                    place = f'x="{middle:g}" y="{BASELINE}"'
                    yield f"<text{_attributes(look)} {place}>{escape(alone.text)}</text>"


def _kind(text: str) -> str:
    if not text or is_shape(text):
        return "none"
    return "ascii" if text.isascii() else "alone"


def _text(text: str, x: int, look: Look) -> str:
    place = f'x="{x * WIDTH}" y="{BASELINE}" textLength="{len(text) * WIDTH}"'
    return f"<text{_attributes(look)} {place}>{escape(text)}</text>"


def _attributes(look: Look) -> str:
    return (f' class="{look.classes}"' if look.classes else "") + f' fill="{look.ink}"'


def _runs(row: Row, key: Callable[[Cell], object]) -> Iterator[tuple[int, int, Cell]]:
    """Yields where equal cells begin, how many they are, and the first of them."""
    x = 0
    for _, cells in groupby(row, key):
        run = list(cells)
        yield x, len(run), run[0]
        x += len(run)

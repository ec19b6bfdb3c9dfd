"""Sends the terminal only the cells that differ from those it shows already.

Textual 8.2.8 sends a changed line from the left edge of its widget on, and all of a widget that
names no region: 18 kB for one cell of a table, and 2.2 kB a second for a run that somebody watches.
`SparingApp` remembers what it sent last and leaves out the rest: 0.7 kB a second.

The updates are private parts of Textual. Where it lacks them, or makes them of other parts, it
sends what it likes to send; nothing else changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, TypeVar

from rich.cells import cell_len, split_graphemes
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import Style
from textual.app import App
from textual.driver import Driver
from textual.events import Resize
from textual.screen import Screen
from textual.strip import Strip

try:
    from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
except ImportError:

    class _Lacking:
        """Stands for the updates of a Textual that has none of these names."""

    ChopsUpdate = CompositorUpdate = LayoutUpdate = _Lacking  # type: ignore[assignment, misc]

Return = TypeVar("Return")

IS_KNOWN = [list(inspect.signature(kind).parameters) for kind in (LayoutUpdate, ChopsUpdate)] == [
    ["strips", "region"],
    ["chops", "spans", "chop_ends"],
]
"""Whether this Textual makes its updates of the parts that `_pieces` reads."""


class Look(NamedTuple):
    """Parameters of an SGR sequence: of a cell, and of a blank with its background."""

    ansi: str
    blank: str


Cell = tuple[str, Look]
"""The right half of a wide character is empty."""
PLAIN = Look("", "")
UNSURE = -1
"""After combined characters: terminals differ in how much room these take."""
MAX_REPEATED = 5
"""So many cells in the present look are sent again rather than jumped over."""


class SparingApp(App[Return]):
    """An app for a slow line. Its terminal shows nothing that did not go through it."""

    def __init__(
        self, *, driver_class: type[Driver] | None = None, ansi_color: bool | None = None
    ) -> None:
        super().__init__(driver_class=driver_class, ansi_color=ansi_color)
        self._shown = ShownCells()

    def on_resize(self, event: Resize) -> None:
        """The terminal may have moved or lost cells by itself."""
        del event
        self._shown.forget()

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if IS_KNOWN and isinstance(renderable, ChopsUpdate | LayoutUpdate):
            renderable = SparingUpdate(renderable, self._shown)
        super()._display(screen, renderable)


class SparingUpdate(CompositorUpdate):
    """Stands for an update of Textual's, and sends less. A whole screen is sent whole."""

    def __init__(self, update: ChopsUpdate | LayoutUpdate, shown: ShownCells) -> None:
        self._update = update
        self._shown = shown

    def render_segments(self, console: Console) -> str:
        colours = COLOR_SYSTEMS.get(console.color_system or "", ColorSystem.TRUECOLOR)
        if isinstance(self._update, LayoutUpdate):
            self._shown.forget()
        pen = Pen()
        for y, x, strip in _pieces(self._update):
            self._shown.draw(pen, y, x, cells_of(strip, colours))
        return pen.text()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return self._update.__rich_console__(console, options)


class ShownCells:
    """The cells that the terminal shows, as far as they are known."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[int, Cell]] = {}

    def forget(self) -> None:
        self._lines.clear()

    def draw(self, pen: Pen, y: int, x: int, cells: Iterable[Cell]) -> None:
        """Write what differs. Both halves of a wide character are written if one differs."""
        line = self._lines.setdefault(y, {})
        new = list(cells)
        old = [line.get(column) for column in range(x, x + len(new))]
        if new == old:
            return
        differs = [before != after for before, after in zip(old, new, strict=True)]
        for place in range(len(new) - 1):
            if new[place + 1][0] == "":
                differs[place] = differs[place] or differs[place + 1]
        for place, (cell, is_changed) in enumerate(zip(new, differs, strict=True)):
            if is_changed and cell[0]:
                pen.move(y, x + place, new[max(0, place - MAX_REPEATED) : place])
                pen.write(cell, 1 + (new[place + 1 : place + 2] == [("", cell[1])]))
        line.update(enumerate(new, x))


class Pen:
    """Collects the bytes of one update: moves, looks and texts, none of them twice."""

    def __init__(self) -> None:
        self._sent: list[str] = []
        self._y: int | None = None
        self._x = 0
        self._look = PLAIN

    def move(self, y: int, x: int, between: list[Cell]) -> None:
        """To a place, over the last cells before it where that is shorter."""
        if y != self._y:
            self._sent.append(f"\x1b[{y + 1};{x + 1}H")
        elif x != self._x:
            gap = 0 if self._x == UNSURE else x - self._x
            passed = between[len(between) - gap :] if 0 < gap <= len(between) else []
            if passed and all(self._fits(cell) and cell[0].isascii() for cell in passed):
                self._sent += [glyph for glyph, _ in passed]
            else:
                self._sent.append(f"\x1b[{x + 1}G")
        self._y, self._x = y, x

    def write(self, cell: Cell, width: int) -> None:
        glyph, look = cell
        if not self._fits(cell):
            self._sent.append(f"\x1b[0;{look.ansi}m" if look.ansi else "\x1b[0m")
            self._look = look
        self._sent.append(glyph)
        self._x += width
        if len(glyph) > 1:
            self._x = UNSURE

    def text(self) -> str:
        """All of it; the terminal is left in its plain look."""
        return "".join(self._sent) + ("\x1b[0m" if self._look.ansi else "")

    def _fits(self, cell: Cell) -> bool:
        glyph, look = cell
        if glyph == " ":
            return look.blank == self._look.blank
        return look == self._look and glyph != ""


def cells_of(strip: Strip, colours: ColorSystem) -> Iterator[Cell]:
    """One a column. What takes no room of its own is part of the cell before it."""
    cells: list[Cell] = []
    for text, style, control in strip:
        if control:
            continue
        look = PLAIN if style is None else look_of(style, colours)
        if text.isascii():
            blank = (" ", Look(look.blank, look.blank))
            cells += [blank if glyph == " " else (glyph, look) for glyph in text]
        else:
            for start, end, width in split_graphemes(text)[0]:
                _add(cells, text[start:end], width, look)
    return iter(cells)


@lru_cache(4096)
def look_of(style: Style, colours: ColorSystem) -> Look:
    """Blanks show no colour of their own, unless the style draws on them."""
    ansi = Strip.render_ansi(style, colours)
    draws = style.reverse or style.underline or style.underline2 or style.strike or style.overline
    blank = ansi if draws else Strip.render_ansi(Style(bgcolor=style.bgcolor), colours)
    return Look(ansi, blank)


def _add(cells: list[Cell], glyph: str, width: int, look: Look) -> None:
    if width == 0:
        if cells:
            cells[-1] = (cells[-1][0] + glyph, cells[-1][1])
        return
    cells.append((" ", Look(look.blank, look.blank)) if glyph == " " else (glyph, look))
    cells.extend([("", look)] * (min(width, cell_len(glyph)) - 1))


def _pieces(update: ChopsUpdate | LayoutUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Line, column and strip of all that the update would send, cut to what it names."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                yield y, x, strip
                x += strip.cell_length
        return
    for y, x1, x2 in update.spans:
        for end, (x, whole) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            start, stop = max(x, x1), min(end, x2)
            if whole is not None and start < stop:
                yield y, start, whole.crop(start - x, stop - x)

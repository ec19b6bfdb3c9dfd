"""Owns panels of text lines: what a subclass writes is made visible, clipped and painted.

Some panels move under a person's hands, and still do not flood a slow line. The first change is
drawn at once. What it sends makes the next one wait until the line would have taken it in, so that
a key that is held down shows fewer pictures and never older ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import ClassVar, Generic, Protocol, TypeVar, cast

from rich.cells import cell_len, set_cell_size
from textual.timer import Timer
from textual.widget import Widget

from halos_tui.formatting import visible, without_last_figure
from halos_tui.widgets.canvas import ASCII, Canvas, Cell, Row, Run
from halos_tui.widgets.painted import Painted

PanelData = TypeVar("PanelData")
Line = Sequence[Run]
"""A line is texts, each with the name of its style."""
GAP = "  "
"""It stands between what is beside each other."""

BYTES_PER_CELL = 1.25
"""Text whose cells all change takes so much, with cursor moves and styles."""


class Panel(Painted, Generic[PanelData]):
    """It shows data of one kind; equal data repaints nothing."""

    PREFIX = "panel"
    IS_VERBATIM: ClassVar[bool] = False
    """Its texts come from elsewhere, and may be cut within a figure too."""
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "panel--title",
        "panel--muted",
        "panel--accent",
        "panel--good",
        "panel--warning",
        "panel--bad",
        "panel--cursor",
    }
    DEFAULT_CSS = """
    Panel {
        .panel--title { text-style: bold; }
        .panel--muted { color: $text-muted; }
        .panel--accent { color: $accent; }
        .panel--good { color: $success; }
        .panel--warning { color: $warning; }
        .panel--bad { color: $error; text-style: bold; }
        .panel--cursor { text-style: reverse; }
    }
    """

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.is_ascii = is_ascii
        self.shown: PanelData | None = None

    def show(self, shown: PanelData) -> None:
        """Draws this from now on."""
        if shown is not self.shown and shown != self.shown:
            self.shown = shown
            self.repaint()

    @abstractmethod
    def lines(self, shown: PanelData, width: int, height: int) -> Iterable[Line]:
        """Returns what to write, from the top."""

    def painting(self, width: int, height: int) -> list[Row]:
        if self.shown is None:
            return []
        return [
            row_of(line, width, is_ascii=self.is_ascii, is_verbatim=self.IS_VERBATIM)
            for line, _ in zip(self.lines(self.shown, width, height), range(height), strict=False)
        ]


def row_of(line: Line, width: int, *, is_ascii: bool = False, is_verbatim: bool = False) -> Row:
    """Returns the line in exactly `width` cells, with a mark where something was left out.

    A figure is whole or not there, unless the text is verbatim.
    """
    canvas = Canvas(width, 1, ASCII)
    column = 0
    for text, style in line:
        shown = visible(text)
        if is_ascii:
            shown = shown.encode("ascii", "backslashreplace").decode()
        if column + cell_len(shown) > width:
            left = max(0, width - column - 1)
            kept = set_cell_size(shown, left)
            kept = kept if is_verbatim else without_last_figure(kept)
            canvas.write(column, 0, kept + (">" if is_ascii else "…"), style)
            break
        canvas.write(column, 0, shown, style)
        column += cell_len(shown)
    return (canvas.rows() or [()])[0]


def beside(left: Line, right: Line, width: int) -> Line:
    """Puts both on one line, `right` at the right edge where there is room for it."""
    used = sum(cell_len(visible(text)) for text, _ in (*left, *right))
    if used + 2 > width:
        return left
    return [*left, (" " * (width - used), ""), *right]


def joined(parts: Iterable[Line]) -> Line:
    """Joins all parts that are not empty on one line."""
    line: list[Run] = []
    for part in parts:
        if any(text for text, _ in part):
            line += [(GAP, ""), *part] if line else part
    return line


def merged(rows: Sequence[Sequence[Row]], widths: Sequence[int], *, gap: int) -> list[Row]:
    """Puts pictures beside each other, each of its width, with blank columns between."""
    blank: Cell = (" ", "")
    height = max((len(picture) for picture in rows), default=0)
    made: list[Row] = []
    for y in range(height):
        row: list[Cell] = []
        for picture, width in zip(rows, widths, strict=True):
            row += [blank] * (gap if row else 0)
            cells = picture[y][:width] if y < len(picture) else ()
            row += [*cells, *[blank] * (width - len(cells))]
        made.append(tuple(row))
    return made


class Keys(Protocol):
    """This is a screen that knows the keys of its actions."""

    def key(self, action: str) -> str: ...


def key_of(widget: Widget, action: str) -> str:
    """Returns the key of an action of the screen that a widget is on, as it is shown."""
    return cast("Keys", widget.screen).key(action)


class TextLines(Panel[tuple[Line, ...]]):
    """It shows the lines as they are given."""

    def lines(self, shown: tuple[Line, ...], width: int, height: int) -> tuple[Line, ...]:
        del width, height
        return shown


class Paced(Panel[PanelData]):
    """It sends at most `BYTES_PER_S` for longer than one picture."""

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

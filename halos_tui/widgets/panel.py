"""Panels of text lines: what a subclass writes is made visible, clipped and painted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.cells import cell_len, set_cell_size

from halos_tui.formatting import visible
from halos_tui.widgets.canvas import ASCII, Canvas, Cell, Row, Run
from halos_tui.widgets.painted import Painted

PanelData = TypeVar("PanelData")
Line = Sequence[Run]
"""Texts, each with the name of its style."""
GAP = "  "
"""Between what stands beside each other."""


class Panel(Painted, Generic[PanelData]):
    """Shows data of one kind; equal data repaints nothing."""

    PREFIX = "panel"
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
        """Draw this from now on."""
        if shown is not self.shown and shown != self.shown:
            self.shown = shown
            self.repaint()

    @abstractmethod
    def lines(self, shown: PanelData, width: int, height: int) -> Iterable[Line]:
        """What to write, from the top."""

    def painting(self, width: int, height: int) -> list[Row]:
        if self.shown is None:
            return []
        return [
            row_of(line, width, is_ascii=self.is_ascii)
            for line, _ in zip(self.lines(self.shown, width, height), range(height), strict=False)
        ]


def row_of(line: Line, width: int, *, is_ascii: bool = False) -> Row:
    """The line in exactly `width` cells, with a mark at the end where something was left out."""
    canvas = Canvas(width, 1, ASCII)
    column = 0
    for text, style in line:
        shown = visible(text)
        if is_ascii:
            shown = shown.encode("ascii", "backslashreplace").decode()
        if column + cell_len(shown) > width:
            left = max(0, width - column - 1)
            canvas.write(column, 0, set_cell_size(shown, left) + (">" if is_ascii else "…"), style)
            break
        canvas.write(column, 0, shown, style)
        column += cell_len(shown)
    return (canvas.rows() or [()])[0]


def beside(left: Line, right: Line, width: int) -> Line:
    """Both on one line, `right` at the right edge where there is room for it."""
    used = sum(cell_len(visible(text)) for text, _ in (*left, *right))
    if used + 2 > width:
        return left
    return [*left, (" " * (width - used), ""), *right]


def joined(parts: Iterable[Line]) -> Line:
    """All parts that are not empty, on one line."""
    line: list[Run] = []
    for part in parts:
        if any(text for text, _ in part):
            line += [(GAP, ""), *part] if line else part
    return line


def merged(rows: Sequence[Sequence[Row]], widths: Sequence[int], *, gap: int) -> list[Row]:
    """Pictures beside each other, each of its width, with blank columns between."""
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

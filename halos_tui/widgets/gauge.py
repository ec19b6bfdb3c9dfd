"""This widget is a bar that says how much of something is used or done."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size

from halos_tui.formatting import visible
from halos_tui.widgets.canvas import ASCII, Canvas, Row
from halos_tui.widgets.painted import Painted

Level = Literal["bar", "warning", "error"]
EIGHTHS = " ▏▎▍▌▋▊▉█"
EMPTY = "·"
MIN_BAR = 4


def gauge(
    fraction: float | None,
    width: int,
    *,
    label: str = "",
    text: str = "",
    level: Level = "bar",
    label_width: int | None = None,
    text_width: int | None = None,
    is_ascii: bool = False,
) -> Row:
    """Draws `label ████▌··· text` in exactly `width` cells; `fraction` is 0 to 1, None for unknown.

    The widths of label and text are their own unless given, for bars that stand under each other.
    The bar gives way first, then the label.
    """
    canvas = Canvas(width, 1, ASCII)
    shown_label, shown_text = visible(label), visible(text)
    text_cells = min(max(0, width), cell_len(shown_text) if text_width is None else text_width)
    label_cells = cell_len(shown_label) if label_width is None else label_width
    label_cells = max(0, min(label_cells, width - text_cells - bool(text_cells)))
    start = label_cells + bool(label_cells)
    end = width - text_cells - bool(text_cells)
    canvas.write(0, 0, set_cell_size(shown_label, label_cells), "label")
    if end - start >= MIN_BAR:
        _draw_bar(canvas, start, end, fraction, level, is_ascii=is_ascii)
    canvas.write(width - text_cells, 0, set_cell_size(shown_text, text_cells), "text")
    return (canvas.rows() or [()])[0]


class Gauge(Painted):
    """It is one line; `update` repaints only the cells that change."""

    PREFIX = "gauge"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "gauge--label",
        "gauge--text",
        "gauge--bar",
        "gauge--warning",
        "gauge--error",
        "gauge--empty",
    }
    DEFAULT_CSS = """
    Gauge {
        height: 1;
        .gauge--empty { color: $text-muted; }
        .gauge--bar { color: $accent; }
        .gauge--warning { color: $warning; }
        .gauge--error { color: $error; text-style: bold; }
    }
    """

    def __init__(
        self,
        label: str = "",
        *,
        label_width: int | None = None,
        text_width: int | None = None,
        is_ascii: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._label = label
        self._widths = (label_width, text_width)
        self._is_ascii = is_ascii
        self._fraction: float | None = None
        self._text = ""
        self._level: Level = "bar"

    def update(self, fraction: float | None, text: str = "", *, level: Level = "bar") -> None:
        """Shows a `fraction` from 0 to 1, None for unknown; `level` colours the bar."""
        self._fraction, self._text, self._level = fraction, text, level
        self.repaint()

    def painting(self, width: int, height: int) -> list[Row]:
        del height
        label_width, text_width = self._widths
        row = gauge(
            self._fraction,
            width,
            label=self._label,
            text=self._text,
            level=self._level,
            label_width=label_width,
            text_width=text_width,
            is_ascii=self._is_ascii,
        )
        return [row]


def _draw_bar(
    canvas: Canvas, start: int, end: int, fraction: float | None, level: Level, *, is_ascii: bool
) -> None:
    """Draws the bar; in ASCII it stands in brackets."""
    if is_ascii:
        canvas.write(start, 0, "[", "empty")
        canvas.write(end - 1, 0, "]", "empty")
        start, end = start + 1, end - 1
    if fraction is None or math.isnan(fraction):
        canvas.write(start, 0, "?".center(end - start), "empty")
        return
    parts = 1 if is_ascii else 8
    full, rest = divmod(round(min(1.0, max(0.0, fraction)) * (end - start) * parts), parts)
    canvas.write(start, 0, ("." if is_ascii else EMPTY) * (end - start), "empty")
    canvas.write(start, 0, ("#" if is_ascii else EIGHTHS[-1]) * full, level)
    if rest:
        canvas.write(start + full, 0, EIGHTHS[rest], level)

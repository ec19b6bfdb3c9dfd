"""This widget says what a screen shows and how it stands, and under that what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from halos_tui.text_layout import num_cells
from halos_tui.widgets.painted import SERIES_COLOURS, series_css
from halos_tui.widgets.panel import GAP, Line, Panel, beside


@dataclass(frozen=True)
class Title:
    """`state` stands at the right: the first parts, as far as there is room."""

    about: tuple[tuple[str, str], ...] = ()
    state: tuple[tuple[str, str], ...] = ()
    problem: str = ""


class TitleLine(Panel[Title]):
    """It is one line, two where something is wrong."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"panel--{name}" for name in SERIES_COLOURS}
    DEFAULT_CSS = f"""
    TitleLine {{ height: 1; {series_css("panel")} }}
    TitleLine.-problem {{ height: 2; }}
    """

    def show(self, shown: Title) -> None:
        self.set_class(bool(shown.problem), "-problem")
        super().show(shown)

    def lines(self, shown: Title, width: int, height: int) -> Iterator[Line]:
        del height
        yield beside(shown.about, _fitting(shown, width), width)
        if shown.problem:
            yield [(shown.problem, "warning")]


def _fitting(shown: Title, width: int) -> Line:
    room = width - num_cells(shown.about) - len(GAP)
    line: list[tuple[str, str]] = []
    for text, style in shown.state:
        part = [(GAP, ""), (text, style)] if line else [(text, style)]
        if num_cells([*line, *part]) > room:
            break
        line += part
    return line

"""What a screen shows and how it stands, and under that what is wrong, for as long as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from halos_tui.widgets.panel import Line, Panel, beside


@dataclass(frozen=True)
class Title:
    """`state` stands at the right where there is room."""

    about: tuple[tuple[str, str], ...] = ()
    state: tuple[tuple[str, str], ...] = ()
    problem: str = ""


class TitleLine(Panel[Title]):
    """One line, two where something is wrong."""

    DEFAULT_CSS = """
    TitleLine { height: 1; }
    TitleLine.-problem { height: 2; }
    """

    def show(self, shown: Title) -> None:
        self.set_class(bool(shown.problem), "-problem")
        super().show(shown)

    def lines(self, shown: Title, width: int, height: int) -> Iterator[Line]:
        del height
        yield beside(shown.about, shown.state, width)
        if shown.problem:
            yield [(shown.problem, "warning")]

"""This widget is a page of lines that were laid out before, scrolled by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from halos_tui.formatting import plural
from halos_tui.text_layout import Page
from halos_tui.widgets.panel import Line, Paced, key_of
from halos_tui.widgets.virtual_list import Moving


class PageView(Paced[Page], Moving):
    """It says at its last line how much is below."""

    can_focus = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {"panel--differs", "panel--hit"}
    DEFAULT_CSS = """
    PageView {
        .panel--differs { text-style: bold underline; }
        .panel--hit { text-style: reverse; }
    }
    """

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._top = 0

    def show_from(self, page: Page, top: int | None) -> None:
        """Shows a page from that line on, or from the one that is the first now."""
        self._top = self._top if top is None else top
        self.shown = page
        self.repaint()

    def lines(self, shown: Page, width: int, height: int) -> Iterator[Line]:
        del width
        self._top = max(0, min(self._top, len(shown.lines) - max(1, height)))
        below = len(shown.lines) - self._top - height
        room = height - (below > 0 and height > 1)
        yield from shown.lines[self._top : self._top + room]
        if room < height:
            yield self._more(below + 1)

    def _more(self, below: int) -> Sequence[tuple[str, str]]:
        keys = " and ".join(key_of(self, name) for name in ("read_on", "read_back"))
        return [(f"{plural(below, 'line')} below; {keys} scroll", "muted")]

    @property
    def num_rows(self) -> int:
        return len(self.shown.lines) if self.shown else 0

    @property
    def page_rows(self) -> int:
        """Leaves a line in sight, and one for what is below."""
        return max(1, self.size.height - 2)

    def action_move(self, by: int) -> None:
        top = max(0, min(self._top + by, self.num_rows - self.size.height))
        if top != self._top:
            self._top = top
            self.repaint()

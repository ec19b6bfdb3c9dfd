"""This widget is a page of lines that were laid out before, scrolled by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollUp

from halos_tui.formatting import plural
from halos_tui.text_layout import Page
from halos_tui.widgets.panel import Line, Paced

WHEEL_LINES = 3


class PageView(Paced[Page]):
    """It says at its last line how much is below."""

    can_focus = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {"panel--differs", "panel--hit"}
    DEFAULT_CSS = """
    PageView {
        .panel--differs { text-style: bold underline; }
        .panel--hit { text-style: reverse; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "Line before", show=False),
        Binding("down,j", "scroll_by(1)", "Line after", show=False),
        Binding("pageup", "scroll_page(-1)", "Page before", show=False),
        Binding("pagedown", "scroll_page(1)", "Page after", show=False),
        Binding("home", "scroll_to_line(0)", "Beginning", show=False),
        Binding("end", "scroll_to_line(1000000000)", "End", show=False),
    ]

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
        return [(f"{plural(below, 'line')} below; J and K scroll", "muted")]

    def action_scroll_by(self, by: int) -> None:
        self.action_scroll_to_line(self._top + by)

    def action_scroll_page(self, by: int) -> None:
        self.action_scroll_by(by * max(1, self.size.height - 2))

    def action_scroll_to_line(self, line: int) -> None:
        num_lines = len(self.shown.lines) if self.shown else 0
        top = max(0, min(line, num_lines - self.size.height))
        if top != self._top:
            self._top = top
            self.repaint()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_scroll_by(-WHEEL_LINES)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_scroll_by(WHEEL_LINES)

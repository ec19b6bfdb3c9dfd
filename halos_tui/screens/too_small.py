"""This screen stands before one that has no room, so that a small terminal shows nothing broken."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

SMALLEST = (40, 10)


class TooSmallScreen(Screen[None]):
    """It goes away by itself when the terminal is large enough."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", show=False),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def compose(self) -> ComposeResult:
        columns, lines = SMALLEST
        yield Static(
            f"This screen needs at least {columns}x{lines}. Make the terminal larger,"
            " or escape goes back.",
            markup=False,
        )

    def action_leave(self) -> None:
        """Leaves the screen behind it too, where there is a screen before that one."""
        screens = self.app.screen_stack
        behind = screens[-2]
        self.app.pop_screen()
        if len(screens) > 3 and not behind.is_modal:
            self.app.pop_screen()


def has_room(size: tuple[int, int]) -> bool:
    """Says whether a size of columns and lines has room."""
    return size[0] >= SMALLEST[0] and size[1] >= SMALLEST[1]

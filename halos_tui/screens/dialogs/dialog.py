"""What all dialogs share: a box over the screen, its heading, escape."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer | None], Generic[Answer]):
    """A question over the screen; its result is None where the person leaves it with escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False, priority=True),
        Binding("pageup", "page(-1)", "Page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "Page down", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        #box {
            width: 76;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            padding: 0 1;
            border: round $accent;
            background: $surface;
        }
        .heading { text-style: bold; width: 1fr; height: auto; }
        .text { width: 1fr; height: auto; }
        .hint { width: 1fr; height: auto; color: $text-muted; }
        .problem { width: 1fr; height: auto; color: $error; }
        OptionList { width: 1fr; height: auto; border: none; padding: 0; margin: 1 0 0 0; }
        Input, Input:focus {
            width: 1fr;
            height: 1;
            border: none;
            padding: 0 1;
            background: $panel;
        }
    }
    """

    def action_page(self, by: int) -> None:
        """Scroll what is too long for the screen."""
        box = self.query_one("#box")
        box.scroll_relative(y=by * max(1, box.size.height - 2), animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)

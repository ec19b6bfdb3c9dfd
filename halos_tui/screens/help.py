"""All that can be done on a screen, made from the registry, with the keys as they are now."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.keys import format_key
from textual.widgets import Static

from halos_tui.actions import ScreenName, actions_of
from halos_tui.keymap import config_path
from halos_tui.screens.base import HalosScreen
from halos_tui.widgets.footer import Footer


class HelpScreen(HalosScreen):
    """Help for the screen of that name."""

    NAME: ClassVar[ScreenName] = "help"
    BINDINGS: ClassVar[list[BindingType]]
    DEFAULT_CSS = """
    HelpScreen { VerticalScroll { height: 1fr; padding: 0 1; } }
    """

    def __init__(self, about: ScreenName) -> None:
        super().__init__()
        self._about: ScreenName = about

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self._text(), markup=False)
        yield Footer(is_ascii=self.halos.options.is_ascii)

    def action_help(self) -> None:
        self.action_back()

    def _text(self) -> Text:
        actions = actions_of(self._about, read_only=self.halos.options.read_only)
        keys = {action.id: self._key(action.id, action.keys) for action in actions}
        width = max(map(len, keys.values()))
        text = Text(f"{self._about.replace('_', ' ')}\n\n", style="bold")
        for action in actions:
            text.append(f"{keys[action.id]:>{width}}  ", style="bold")
            text.append(f"{action.title}: {action.tooltip}\n", style="not bold")
        text.append(
            "\nQuitting never touches a run. Keys, theme and mouse can be set in"
            f" {config_path()}.\n",
            style="not bold",
        )
        return text

    def _key(self, id: str, default: str) -> str:
        keys = self.halos.config.keys.get(id, default).split(",")
        return " ".join(format_key(key) for key in keys)

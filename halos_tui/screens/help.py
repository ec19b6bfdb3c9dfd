"""This screen shows all that can be done on another, with the keys as they are remapped."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.keys import format_key
from textual.widgets import Input, Static

from halos_tui.actions import Action, ScreenName, actions_of
from halos_tui.keymap import config_path
from halos_tui.screens.base import HalosScreen
from halos_tui.widgets.footer import Footer


class HelpScreen(HalosScreen):
    """It is help for the screen of that name; what a person searches for stays."""

    NAME: ClassVar[ScreenName] = "help"
    BINDINGS: ClassVar[list[BindingType]]
    DEFAULT_CSS = """
    HelpScreen {
        #scroll { height: 1fr; padding: 0 1; }
        #search { height: 1; border: none; padding: 0 1; display: none; }
    }
    """

    def __init__(self, about: ScreenName) -> None:
        super().__init__()
        self._about: ScreenName = about

    def compose(self) -> ComposeResult:
        yield Input(placeholder="a key, or a word", id="search")
        with VerticalScroll(id="scroll"):
            yield Static(self._text(), id="text", markup=False)
        yield Footer(is_ascii=self.halos.options.is_ascii)

    def on_mount(self) -> None:
        self.query_one("#scroll").focus()

    def action_help(self) -> None:
        self.action_back()

    def action_search(self) -> None:
        self._input.display = True
        self._input.focus()

    def action_back(self) -> None:
        """Leaves the search first."""
        if self._input.display:
            self._input.value = ""
            self._input.display = False
            self.query_one("#scroll").focus()
        else:
            super().action_back()

    @on(Input.Changed, "#search")
    def _searched(self) -> None:
        self.query_one("#text", Static).update(self._text(self._input.value))

    @on(Input.Submitted, "#search")
    def _search_done(self) -> None:
        self.query_one("#scroll").focus()

    @property
    def _input(self) -> Input:
        return self.query_one("#search", Input)

    def _text(self, wanted: str = "") -> Text:
        actions = actions_of(self._about, read_only=self.halos.options.read_only)
        keys = {action.id: self._key(action) for action in actions}
        width = max(map(len, keys.values()))
        text = Text(f"{self._about.replace('_', ' ')}\n\n", style="bold")
        for action in actions:
            line = f"{action.title}: {action.tooltip}"
            if wanted.casefold() in f"{keys[action.id]} {line}".casefold():
                text.append(f"{keys[action.id]:>{width}}  ", style="bold")
                text.append(line, style="not bold")
                text.append(f"  ({action.id})\n", style="not bold dim")
        text.append(
            "\nQuitting never touches a run. Keys (by the names in brackets), theme and mouse"
            f" can be set in {config_path()}.\n",
            style="not bold",
        )
        return text

    def _key(self, action: Action) -> str:
        keys = self.halos.config.keys.get(action.id, action.keys).split(",")
        return " ".join(format_key(key) for key in keys)

"""This screen shows all that can be done on another, with the keys as they are remapped."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from halos_tui.actions import Action, ScreenName
from halos_tui.formatting import visible_lines
from halos_tui.keymap import config_path, shown_key
from halos_tui.screens.base import HalosScreen, is_boxed
from halos_tui.widgets.footer import Footer

EDGES, BOX = 4, 2
"""The text's edges and its scroll bar take so many columns, and a box around it so many more."""


class HelpScreen(HalosScreen):
    """It is help for that screen, as things stand there; what a person searches for stays."""

    NAME: ClassVar[ScreenName] = "help"
    BINDINGS: ClassVar[list[BindingType]]
    TITLES: ClassVar[Mapping[str, str]] = {"scroll": "keys"}
    DEFAULT_CSS = """
    HelpScreen {
        #title { height: 1; text-style: bold; padding: 0 1; }
        #scroll { height: 1fr; padding: 0 1; }
        #search { height: 1; border: none; padding: 0 1; display: none; }
    }
    """

    def __init__(self, about: HalosScreen) -> None:
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        yield Static(f"{self._about.NAME.replace('_', ' ')}: all keys", id="title", markup=False)
        yield Input(placeholder="a key, or a word", id="search")
        with VerticalScroll(id="scroll"):
            yield Static("", id="text", markup=False)
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

    def on_resize(self) -> None:
        self._write()

    @on(Input.Changed, "#search")
    def _write(self) -> None:
        self.query_one("#text", Static).update(self._text(self._input.value))

    @on(Input.Submitted, "#search")
    def _search_done(self) -> None:
        self.query_one("#scroll").focus()

    @property
    def _input(self) -> Input:
        return self.query_one("#search", Input)

    def _text(self, wanted: str = "") -> Text:
        actions = self._about.actions()
        width = max(len(self._key(action)) for action in actions)
        found = [
            (action, self._about.why_not(action.id))
            for action in actions
            if wanted.casefold() in f"{self._key(action)} {_line(action)}".casefold()
        ]
        text = Text(style="bold")
        for action, why_not in sorted(found, key=lambda one: bool(one[1])):
            style = "not bold dim" if why_not else "not bold"
            text.append(f"{self._key(action):>{width}}  ", style=style if why_not else "bold")
            text.append(self._wrapped(f"{_line(action)}  ({action.id})", width + 2), style=style)
            if why_not:
                reason = f"not now: {visible_lines(self._about.in_keys(why_not))}"
                text.append(" " * (width + 2))
                text.append(self._wrapped(reason, width + 2), style=style)
        text.highlight_regex(r"(?m)  \(\w+\)$", style="not bold dim")
        text.append(
            "\nQuitting never touches a run. Keys (by the names in brackets), theme and mouse"
            f" can be set in {config_path()}.\n",
            style="not bold",
        )
        return text

    def _wrapped(self, text: str, indent: int) -> str:
        """Breaks a text that begins at the indent, and goes on there in each line."""
        edges = EDGES + (BOX if is_boxed(self.size) else 0)
        room = max(20, self.size.width - edges - indent)
        return f"\n{' ' * indent}".join(textwrap.wrap(text, room)) + "\n"

    def _key(self, action: Action) -> str:
        keys = self.halos.config.keys.get(action.id, action.keys).split(",")
        return " ".join(shown_key(key, is_ascii=self.halos.options.is_ascii) for key in keys)


def _line(action: Action) -> str:
    return f"{action.title}: {action.tooltip}"

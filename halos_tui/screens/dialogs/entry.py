"""Asks for one line of text: a number of rounds, a path, a name."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from halos_tui.formatting import visible_lines
from halos_tui.screens.dialogs.dialog import Dialog


class EntryDialog(Dialog[str]):
    """The result is the text, once `check` finds nothing wrong with it.

    `check` gives the reason why a text cannot be taken, or nothing; it is asked at each key, so it
    must not look at files.
    """

    def __init__(
        self,
        heading: str,
        text: str = "",
        *,
        value: str = "",
        placeholder: str = "",
        check: Callable[[str], str] = lambda _text: "",
    ) -> None:
        super().__init__()
        self._heading = heading
        self._text = text
        self._value = value
        self._placeholder = placeholder
        self._check = check

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static(visible_lines(self._heading), classes="heading", markup=False)
            if self._text:
                yield Static(visible_lines(self._text), classes="text", markup=False)
            yield Input(self._value, placeholder=self._placeholder, id="entry")
            yield Static("", id="problem", classes="problem", markup=False)
            yield Static("enter takes it, escape leaves all as it is", classes="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _changed(self, message: Input.Changed) -> None:
        self._say(self._check(message.value) if message.value else "")

    @on(Input.Submitted)
    def _submitted(self, message: Input.Submitted) -> None:
        if problem := self._check(message.value):
            self._say(problem)
        else:
            self.dismiss(message.value)

    def _say(self, problem: str) -> None:
        self.query_one("#problem", Static).update(visible_lines(problem))


def check_rounds(text: str) -> str:
    """Why a text is no number of rounds to add."""
    if not text.strip().isdecimal() or not 1 <= int(text) <= 1_000_000:
        return "a whole number from 1 on"
    return ""

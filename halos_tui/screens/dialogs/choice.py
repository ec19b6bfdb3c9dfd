"""A question with a few answers, each under a letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.events import Key
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from halos_tui.formatting import visible_lines
from halos_tui.screens.dialogs.dialog import Dialog

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Choice(Generic[Answer]):
    """`key` is a letter; `text` says what the answer does."""

    key: str
    text: str
    answer: Answer


class ChoiceDialog(Dialog[Answer]):
    """The result is the answer of the chosen line. Enter takes the one at the cursor: at first the
    line that changes nothing, whose words are `stay`.
    """

    def __init__(
        self,
        heading: str,
        text: str,
        choices: Sequence[Choice[Answer]],
        *,
        stay: str = "leave all as it is",
    ) -> None:
        super().__init__()
        self._heading = heading
        self._text = text
        self._choices = list(choices)
        self._stay = stay

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box", can_focus=False):
            yield Static(visible_lines(self._heading), classes="heading", markup=False)
            if self._text:
                yield Static(visible_lines(self._text), classes="text", markup=False)
            lines = [("esc", self._stay), *((choice.key, choice.text) for choice in self._choices)]
            yield OptionList(*[Option(_line(*line)) for line in lines], id="choices")
            yield Static("enter takes the line at the cursor", classes="hint", markup=False)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = 0
        options.focus()

    def on_key(self, event: Key) -> None:
        if event.character == "n" and all(choice.key != "n" for choice in self._choices):
            event.stop()
            self.dismiss(None)
        for choice in self._choices:
            if event.character == choice.key:
                event.stop()
                self.dismiss(choice.answer)

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        answers = [None, *(choice.answer for choice in self._choices)]
        self.dismiss(answers[message.option_index])


def _line(key: str, text: str) -> Text:
    line = Text(f" {key:3}  ", style="bold")
    return line.append(visible_lines(text), style="not bold")

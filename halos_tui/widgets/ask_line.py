"""This widget is one line at the bottom that asks for a text, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.events import Key
from textual.widgets import Input, Static

from halos_tui.formatting import visible
from halos_tui.terminal.key_order import hold_keys, release_keys


class Field(Input):
    """Has what is typed after enter or escape wait until the screen has dealt with the answer,
    such as in a thread: it is no part of the answer.
    """

    def on_key(self, event: Key) -> None:
        if event.key in ("enter", "escape"):
            hold_keys(self)

    def release(self) -> None:
        release_keys(self)


@dataclass(frozen=True, eq=False)
class Question:
    """Is what a line asks: `typed` hears every other text, `answered` the confirmed one."""

    words: str
    hint: str
    typed: Callable[[str], object]
    answered: Callable[[str], object]


class AskLine(Horizontal):
    """It is hidden until it asks; whoever asked closes it."""

    DEFAULT_CSS = """
    AskLine {
        height: 1; display: none;
        Static { width: auto; max-width: 70%; height: 1; }
        #answer { width: 1fr; min-width: 5; height: 1; border: none; padding: 0; }
        .problem { color: $error; text-style: bold; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.question: Question | None = None
        """It is the one that is asked now."""

    def compose(self) -> ComposeResult:
        yield Static("", id="question", markup=False)
        yield Field(id="answer")
        yield Static("", classes="problem", markup=False)

    def ask(self, question: Question, *, text: str = "") -> None:
        """Shows the line with the cursor in it."""
        self.question = question
        self.query_one("#question", Static).update(f"{visible(question.words)} ")
        field = self.query_one(Field)
        with field.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        field.placeholder = question.hint
        self.refuse("")
        self.display = True
        self.screen.set_focus(field)  # at once, since the next key belongs to it
        field.release()

    def refuse(self, problem: str) -> None:
        """Says what is wrong with the text; "" where it is right."""
        self.query_one(".problem", Static).update(visible(f" {problem}" if problem else ""))
        if problem:
            self.query_one(Field).release()

    def close(self) -> None:
        self.display = False
        self.question = None
        self.query_one(Field).release()

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        if self.display and self.question is not None:
            self.question.typed(message.value)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        if self.question is not None:
            self.question.answered(message.value)

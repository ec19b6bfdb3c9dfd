"""One line at the bottom that asks for a text; what is wrong with it is said beside it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from halos_tui.formatting import visible


class AskLine(Horizontal):
    """Hidden until it asks. `purpose` says in whose name; the screen closes it."""

    DEFAULT_CSS = """
    AskLine {
        height: 1; display: none;
        Static { width: auto; max-width: 70%; height: 1; }
        #answer { width: 1fr; min-width: 5; height: 1; border: none; padding: 0; }
        .problem { color: $error; text-style: bold; }
    }
    """

    class Changed(Message):
        """Another text, not confirmed yet."""

        def __init__(self, purpose: str, text: str) -> None:
            super().__init__()
            self.purpose = purpose
            self.text = text

    class Answered(Changed):
        """Confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self.purpose = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="question", markup=False)
        yield Input(id="answer")
        yield Static("", classes="problem", markup=False)

    def ask(self, purpose: str, question: str, *, text: str = "", hint: str = "") -> None:
        """Show the line with the cursor in it."""
        self.purpose = purpose
        self.query_one("#question", Static).update(f"{visible(question)} ")
        field = self.query_one(Input)
        with field.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        field.placeholder = hint
        self.refuse("")
        self.display = True
        self.screen.set_focus(field)  # at once: the next key belongs into it

    def refuse(self, problem: str) -> None:
        """Say what is wrong with the text; nothing where it is right."""
        self.query_one(".problem", Static).update(visible(f" {problem}" if problem else ""))

    def close(self) -> None:
        self.display = False
        self.purpose = ""

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        if self.display:
            self.post_message(self.Changed(self.purpose, message.value))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
        self.post_message(self.Answered(self.purpose, message.value))

"""Writes what is looked at into a file that a person names, never over another one unasked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from halos_backend.errors import HalosError
from textual import on
from textual.message import Message

from halos_tui.formatting import visible
from halos_tui.new_file import chosen_path, write_file
from halos_tui.screens.base import HalosScreen
from halos_tui.widgets.ask_line import AskLine

MUCH_TO_COPY = 50_000
"""Characters; several terminals take no more than 75,000 bytes of base64."""


class WritingOut(HalosScreen):
    """A screen with an `AskLine` that asks for a path."""

    class Written(Message):
        """The file is there, or why not; `exists` where it was there before."""

        def __init__(self, path: str, *, exists: bool = False, problem: str = "") -> None:
            super().__init__()
            self.path = path
            self.exists = exists
            self.problem = problem

    @abstractmethod
    def content(self) -> Callable[[], str] | None:
        """Makes what is to be written, in a thread; None while there is nothing."""

    @abstractmethod
    def close_bar(self, *, forget: bool = False) -> None:
        """Put the question away."""

    @property
    def bar(self) -> AskLine:
        return self.query_one(AskLine)

    def action_write(self) -> None:
        if self.content() is None:
            self.notify("there is nothing to write yet", severity="warning", markup=False)
            return
        self.bar.ask("write", "write to", hint="path of a new file")

    @on(Written)
    def _is_written(self, message: Written) -> None:
        if message.problem:
            self.bar.refuse(message.problem)
        elif message.exists:
            question = "exists; enter overwrites it, escape does not:"
            self.bar.ask("overwrite", question, text=message.path)
        else:
            self.close_bar()
            self.notify(f"written to {visible(message.path)}", markup=False)

    def write(self, text: str, *, overwrite: bool) -> None:
        """To the path that was typed."""
        content = self.content()
        if content is None:
            self.bar.refuse("there is nothing to write any more")
        else:
            self.run_worker(partial(self._write_out, text, content, overwrite), thread=True)

    def _write_out(self, text: str, content: Callable[[], str], overwrite: bool) -> None:
        """In a thread."""
        try:
            is_new = write_file(chosen_path(text), content(), overwrite=overwrite)
            self.post_message(self.Written(text, exists=not is_new))
        except HalosError as error:
            self.post_message(self.Written(text, problem=str(error)))

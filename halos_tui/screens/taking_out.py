"""Takes what is looked at out of the app: to the clipboard, or into a file."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

from halos_backend.errors import HalosError
from textual import on
from textual.message import Message

from halos_tui.completions.page import as_text
from halos_tui.completions.views import Seen
from halos_tui.formatting import count, plural, visible
from halos_tui.new_file import chosen_path, write_file
from halos_tui.screens.base import HalosScreen
from halos_tui.widgets.ask_line import AskLine

MUCH_TO_COPY = 50_000
"""Characters; several terminals take no more than 75,000 bytes of base64."""


class TakingOut(HalosScreen):
    """A screen with an `AskLine` that asks for a path."""

    class Written(Message):
        """The file is there, or why not; `exists` where it was there before."""

        def __init__(self, path: str, *, exists: bool = False, problem: str = "") -> None:
            super().__init__()
            self.path = path
            self.exists = exists
            self.problem = problem

    @abstractmethod
    def current(self) -> Seen | None:
        """What is shown of the completion at the cursor, once that is decoded."""

    @abstractmethod
    def close_bar(self, *, forget: bool = False) -> None:
        """Put the question away."""

    @property
    def bar(self) -> AskLine:
        return self.query_one(AskLine)

    def action_copy(self) -> None:
        """Exactly what the model said, by OSC 52."""
        if (seen := self.current()) is None or seen.group is None:
            self.notify("there is nothing to copy yet", severity="warning", markup=False)
            return
        if seen.pair is not None:
            text = as_text((), _answers(seen))
        else:
            text = seen.group.completions[seen.index].text
        self.app.copy_to_clipboard(text)
        much = "; many terminals take less than that, w writes a file"
        more = much if len(text) > MUCH_TO_COPY else ""
        self.notify(f"copied {plural(len(text), 'character')}{more}", markup=False)

    def action_write(self) -> None:
        if (seen := self.current()) is None or seen.group is None:
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
        seen = self.current()
        if seen is None or seen.group is None:
            return
        content = as_text(seen.group.prompt, _answers(seen))
        self.run_worker(partial(self._write_out, text, content, overwrite), thread=True)

    def _write_out(self, text: str, content: str, overwrite: bool) -> None:
        """In a thread."""
        try:
            is_new = write_file(chosen_path(text), content, overwrite=overwrite)
            self.post_message(self.Written(text, exists=not is_new))
        except HalosError as error:
            self.post_message(self.Written(text, problem=str(error)))


def _answers(seen: Seen) -> list[tuple[str, str]]:
    """What is looked at, with headings for a file."""
    assert seen.group is not None
    if seen.pair is not None:
        return [("chosen", seen.pair.chosen.text), ("rejected", seen.pair.rejected.text)]
    completions = seen.group.completions
    if seen.look.kind == "group":
        return [
            (f"completion {count(place)}", completion.text)
            for place, completion in enumerate(completions, start=1)
        ]
    return [("assistant", completions[seen.index].text)]

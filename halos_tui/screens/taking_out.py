"""Takes completions out of the app: to the clipboard, or into a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

from halos_tui.completions.page import as_text
from halos_tui.completions.views import Seen
from halos_tui.formatting import count, plural
from halos_tui.screens.writing_out import MUCH_TO_COPY, WritingOut


class TakingOut(WritingOut):
    """A screen that shows a completion with its group."""

    @abstractmethod
    def current(self) -> Seen | None:
        """What is shown of the completion at the cursor, once that is decoded."""

    def content(self) -> Callable[[], str] | None:
        seen = self.current()
        if seen is None or seen.group is None:
            return None
        return partial(as_text, seen.group.prompt, _answers(seen))

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

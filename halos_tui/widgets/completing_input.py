"""This field completes its text with tab, as a shell does; it also owns how paths are completed.

What fits is found in a thread, since a directory may be on a slow disk. Later keys wait for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Input

from halos_tui.actions import binding_of
from halos_tui.feed import in_background
from halos_tui.terminal.key_order import keys_held

Fit = Callable[[str], Sequence[str]]
"""It returns all whole texts that begin as the given one does; it may read directories."""

FUNCTION = re.compile(r"^(?:async +)?def +([A-Za-z]\w*)", re.MULTILINE)
MOST_BYTES = 1 << 20
"""No longer file is read for the names of its functions."""
NOTHING = "nothing that can be read begins so"


class CompletingInput(Input):
    """Tab adds what all texts that `fit` have in common; where that is nothing it lists them."""

    BINDINGS: ClassVar[list[BindingType]] = [binding_of("complete")]

    class Listed(Message):
        """This message says which texts could be meant; there may be none."""

        def __init__(self, texts: Sequence[str]) -> None:
            super().__init__()
            self.texts = tuple(texts)

    fit: Fit | None = None
    """Without it tab does what it does in any other field."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "complete":
            return self.fit is not None
        return super().check_action(action, parameters)

    @work(exclusive=True, group="complete")
    async def action_complete(self) -> None:
        if (fit := self.fit) is None:
            return
        with keys_held(self.app):
            typed = self.value
            texts = await in_background(lambda: sorted(fit(typed)))
            if self.value != typed:
                return
            common = os.path.commonprefix(texts)  # noqa: RUF071  a shell adds letters, too
            if len(common) > len(typed):
                self.value = common
                self.cursor_position = len(common)
            elif texts != [typed]:
                self.post_message(self.Listed(texts))


def listing(texts: Sequence[str], room: int) -> str:
    """Lists texts by their last part, as many as have room, and counts the others."""
    if not texts:
        return NOTHING
    names = [text.rstrip("/").rpartition("/")[2] + "/" * text.endswith("/") for text in texts]
    shown: list[str] = []
    for name in names:
        if len("  ".join([*shown, name])) > room and shown:
            return f"{'  '.join(shown)}  and {len(names) - len(shown)} more"
        shown.append(name)
    return "  ".join(shown)


def words_like(words: Sequence[str]) -> Fit:
    return lambda typed: [word for word in words if word.startswith(typed)]


def paths_like(places: Sequence[Path]) -> Fit:
    """Completes paths that are relative to one of the places, or to none; `~` is the home."""
    return lambda typed: ["~/"] if typed == "~" else list(dict.fromkeys(_paths(typed, places)))


def functions_like(places: Sequence[Path]) -> Fit:
    """Completes `file.py:name`: the path of a Python file, then a function in it."""

    def fit(typed: str) -> list[str]:
        file, colon, name = typed.rpartition(":")
        if colon and file.endswith(".py"):
            found = dict.fromkeys(FUNCTION.findall(_text_of(file, places)))
            return [f"{file}:{function}" for function in found if function.startswith(name)]
        paths = paths_like(places)(typed)
        folders = [path for path in paths if path.endswith("/")]
        return [*folders, *(f"{path}:" for path in paths if path.endswith(".py"))]

    return fit


def _paths(typed: str, places: Sequence[Path]) -> Iterator[str]:
    """Yields what can be shown as it is; hidden files only where a dot is typed."""
    head, slash, name = typed.rpartition("/")
    for place in places:
        try:
            # os.path's: Path's own raises for an unknown user
            with os.scandir(place / os.path.expanduser(head + slash)) as entries:  # noqa: PTH111
                for entry in entries:
                    is_hidden = entry.name.startswith(".") and not name.startswith(".")
                    fits = entry.name.startswith(name) and entry.name.isprintable()
                    if fits and not is_hidden:
                        yield f"{head}{slash}{entry.name}{'/' if _is_folder(entry) else ''}"
        except (OSError, ValueError):  # it is none, or nobody may look; a path has no null bytes
            continue


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Says whether it leads to a folder; a link in a circle leads to none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _text_of(file: str, places: Sequence[Path]) -> str:
    for place in places:
        path = place / os.path.expanduser(file)  # noqa: PTH111  as above
        try:
            if path.is_file():  # a pipe would be waited for
                with path.open("rb") as opened:
                    return opened.read(MOST_BYTES).decode(errors="replace")
        except (OSError, ValueError):
            continue
    return ""

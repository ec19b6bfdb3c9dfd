"""Owns screens that show what a person asks for, while the answers come from a thread.

A filter is a part of what is asked. Such a screen also writes what it shows into a file that the
person names, never over another one unasked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from halos_backend.errors import HalosError, UsageError
from textual import on
from textual.message import Message

from halos_tui.feed import Feed, FeedFailed
from halos_tui.formatting import visible
from halos_tui.screens.base import HalosScreen
from halos_tui.search_term import SearchTerm, read_term
from halos_tui.widgets.ask_line import AskLine

MUCH_TO_COPY = 50_000
"""A longer text may not be copied: several terminals take no more than 75,000 bytes of base64."""


class WritingOut(HalosScreen):
    """This is a screen with an `AskLine` that asks for a path."""

    class Written(Message):
        """This message says that the file is there, or why not; `exists` where it was there
        before.
        """

        def __init__(self, path: str, *, exists: bool = False, problem: str = "") -> None:
            super().__init__()
            self.path = path
            self.exists = exists
            self.problem = problem

    @abstractmethod
    def content(self) -> Callable[[], str] | None:
        """Returns what makes the text, in a thread; None while there is nothing."""

    @abstractmethod
    def close_bar(self, *, forget: bool = False) -> None:
        """Puts the question away."""

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
        """Writes to the path that was typed."""
        content = self.content()
        if content is None:
            self.bar.refuse("there is nothing to write any more")
        else:
            self.run_worker(partial(self._write_out, text, content, overwrite), thread=True)

    def _write_out(self, text: str, content: Callable[[], str], overwrite: bool) -> None:
        """Writes, in a thread."""
        try:
            is_new = write_file(chosen_path(text), content(), overwrite=overwrite)
            self.post_message(self.Written(text, exists=not is_new))
        except HalosError as error:
            self.post_message(self.Written(text, problem=str(error)))


def chosen_path(text: str) -> Path:
    """Returns the path that a person typed. Raises UsageError where that is nothing."""
    if not text.strip() or "\0" in text:
        raise UsageError("write it where? give the path of a file")
    return Path(text.strip()).expanduser()


def write_file(path: Path, text: str, *, overwrite: bool = False) -> bool:
    """Writes a file; returns False where there is one already. Raises HalosError when it cannot."""
    try:
        with path.open("w" if overwrite else "x", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise HalosError(f"cannot write it: {error.strerror}: {visible(str(path))}") from error
    return True


class Asking(HalosScreen):
    """`_query` is a frozen dataclass; `_reader` is asked for it, and its views come by `_feed`.

    A view says by its `query` what it answers. It may answer an older query than the newest, so
    that it is drawn and no more: a query is made of the query before it and what the person did,
    never of what a view shows where the query says it.
    """

    _query: Any
    _reader: Any

    def __init__(self) -> None:
        super().__init__()
        self._feed: Feed[Any] | None = None

    def ask_view(self, **changes: Any) -> None:
        """Changes the query; the feed reads on at once, even while it reads for an older one."""
        self._query = replace(self._query, **changes)
        self._reader.ask(self._query)
        if self._feed is not None:
            self._feed.hurry()


class Filtering(WritingOut, Asking):
    """`_query` has a `term`. `_problem` says what is wrong, for as long as it is."""

    QUESTION: ClassVar[str] = "filter"
    HINT: ClassVar[str] = "words, or /pattern"

    def __init__(self) -> None:
        super().__init__()
        self._problem = ""

    @abstractmethod
    def say(self) -> None:
        """Says anew what is shown, and how it stands."""

    @abstractmethod
    def focus_main(self) -> None:
        """Gives the keys back to what the screen is about."""

    def read_filter(self, text: str) -> SearchTerm | None:
        """Reads a filter. Raises UsageError for a text that is none."""
        return read_term(text)

    def filter_text(self, term: SearchTerm) -> str:
        """Writes a filter as a person types it."""
        return f"{'/' * term.is_regex}{term.text}"

    def on_feed_failed(self, message: FeedFailed) -> None:
        """Says what is wrong for as long as it is so, beside the notice that every screen gives."""
        self._problem = message.problem
        self.say()

    def action_search(self) -> None:
        term = self._query.term
        text = "" if term is None else self.filter_text(term)
        self.bar.ask("filter", self.QUESTION, text=text, hint=self.HINT)

    @on(AskLine.Changed)
    def _typed(self, message: AskLine.Changed) -> None:
        self.bar.refuse("")
        if message.purpose == "filter":
            self._filter(message.text)

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        if message.purpose != "filter":
            self.answered(message.purpose, message.text)
        elif self._filter(message.text):
            self.close_bar()

    def answered(self, purpose: str, text: str) -> None:
        """Handles an answer to another question than the filter; here the path of a file."""
        self.write(text, overwrite=purpose == "overwrite")

    def close_bar(self, *, forget: bool = False) -> None:
        """Puts the question away; with `forget` the filter goes as well."""
        self.bar.close()
        self.focus_main()
        if forget and self._query.term is not None:
            self.ask_for(term=None)

    def ask_for(self, **changes: Any) -> None:
        """Shows something else."""
        self.ask_view(**changes)
        self.say()

    def _filter(self, text: str) -> bool:
        """Filters; returns False where the text is no filter, and keeps the one before."""
        try:
            term = self.read_filter(text)
        except UsageError as error:
            self.bar.refuse(str(error))
            return False
        if term != self._query.term:
            self.ask_for(term=term)
        return True

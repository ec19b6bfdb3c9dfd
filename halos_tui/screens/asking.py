"""Owns the parts of a screen that shows what a person asks for, while answers come from a thread.

A screen holds what it asks of its reader, a filter that is a part of that, and what writes the text
that is shown into a file that the person names, never over another one unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from halos_backend.errors import HalosError, UsageError

from halos_tui.feed import Feed, in_background
from halos_tui.formatting import visible
from halos_tui.screens.base import HalosScreen
from halos_tui.widgets.ask_line import AskLine, Question

MUCH_TO_COPY = 50_000
"""A longer text may not be copied: several terminals take no more than 75,000 bytes of base64."""

Query = TypeVar("Query")
View = TypeVar("View")


class Typed(Protocol):
    """It is what a filter wants, and `typed` is how a person writes that."""

    @property
    def typed(self) -> str: ...


Wanted = TypeVar("Wanted", bound=Typed)
MakeText = Callable[[Path], str]
"""It makes the text for the file at that path, in a thread. Raises HalosError where it cannot."""


class Asked(Generic[Query]):
    """Holds the newest query, which `tell` gives to the reader whose views come by a feed.

    A view says by its `query` what it answers. It may answer an older query than the newest, so
    that it is drawn and no more: a query is made of the query before it and what the person did,
    never of what a view shows where the query says it.
    """

    def __init__(self, query: Query, tell: Callable[[Query], None]) -> None:
        self.query = query
        self._tell = tell
        self._hurry: Callable[[], None] | None = None

    def answered_by(self, feed: Feed[View]) -> None:
        """Names the feed that reads on at once when another query is asked."""
        self._hurry = feed.hurry

    def ask(self, query: Query) -> None:
        """Asks for something else; the feed reads on even while it reads for an older query."""
        self.query = query
        self._tell(query)
        if self._hurry is not None:
            self._hurry()


class Filter(Generic[Wanted]):
    """Asks for a filter in the screen's `AskLine`, and applies it with every key.

    `read` reads what a person typed, and raises UsageError where that is no filter; `term` returns
    the filter that holds, `use` shows what fits another one, or all for None, and `leave` gives the
    keys back to what the screen is about. With `is_pattern` the text is a pattern without a `/`
    before it.
    """

    def __init__(
        self,
        screen: HalosScreen,
        *,
        read: Callable[[str], Wanted | None],
        term: Callable[[], Wanted | None],
        use: Callable[[Wanted | None], None],
        leave: Callable[[], None],
        question: str = "filter",
        hint: str = "words, or /pattern",
        is_pattern: bool = False,
    ) -> None:
        self._screen = screen
        self._read = read
        self._term = term
        self._use = use
        self._leave = leave
        self._before = "/" if is_pattern else ""
        self._question = Question(question, hint, typed=self._typed, answered=self._answered)

    def ask(self) -> None:
        term = self._term()
        text = "" if term is None else term.typed.removeprefix(self._before)
        self._bar.ask(self._question, text=text)

    @property
    def is_asked(self) -> bool:
        return self._bar.question is self._question

    def close_bar(self) -> None:
        """Puts any question away that the screen asks; if it is for the filter, that goes too."""
        is_asked = self.is_asked
        self._bar.close()
        self._leave()
        if is_asked and self._term() is not None:
            self._use(None)

    @property
    def _bar(self) -> AskLine:
        return self._screen.query_one(AskLine)

    def _typed(self, text: str) -> bool:
        """Filters; returns False where the text is no filter, and keeps the one before."""
        self._bar.refuse("")
        try:
            term = self._read(f"{self._before}{text}")
        except UsageError as error:
            self._bar.refuse(str(error))
            return False
        if term != self._term():
            self._use(term)
        return True

    def _answered(self, text: str) -> None:
        if self._typed(text):
            self._bar.close()
            self._leave()


class Writing:
    """Asks in the screen's `AskLine` where to write what is shown, and writes it.

    `content` returns what makes the text, or None while there is nothing; `leave` gives the keys
    back to what the screen is about.
    """

    def __init__(
        self,
        screen: HalosScreen,
        *,
        content: Callable[[], MakeText | None],
        leave: Callable[[], None],
        hint: str = "path of a new file",
    ) -> None:
        self._screen = screen
        self._content = content
        self._leave = leave
        where, again = "write to", "exists; enter overwrites it, escape does not:"
        write, overwrite = partial(self._answered, "x"), partial(self._answered, "w")
        self._question = Question(where, hint, typed=self._typed, answered=write)
        self._overwrites = Question(again, hint, typed=self._typed, answered=overwrite)

    def ask(self) -> None:
        if self._content() is None:
            text = "there is nothing to write yet"
            self._screen.notify(text, severity="warning", markup=False)
        else:
            self._bar.ask(self._question)

    @property
    def _bar(self) -> AskLine:
        return self._screen.query_one(AskLine)

    def _typed(self, _text: str) -> None:
        self._bar.refuse("")

    def _answered(self, mode: str, text: str) -> None:
        content = self._content()
        if content is None:
            self._bar.refuse("there is nothing to write any more")
        else:
            self._screen.run_worker(self._write(text, content, mode), group="write", exclusive=True)

    async def _write(self, text: str, content: MakeText, mode: str) -> None:
        try:
            is_new = await in_background(partial(write_file, text, content, mode))
        except HalosError as error:
            self._bar.refuse(str(error))
            return
        if not is_new:
            self._bar.ask(self._overwrites, text=text)
            return
        self._bar.close()
        self._leave()
        self._screen.notify(f"written to {visible(text)}", markup=False)


def chosen_path(text: str) -> Path:
    """Returns the path that a person typed. Raises UsageError where that is nothing."""
    if not text.strip() or "\0" in text:
        raise UsageError("write it where? give the path of a file")
    return Path(text.strip()).expanduser()


def write_file(named: str, content: MakeText, mode: str = "x") -> bool:
    """Writes a file, in a thread; returns False where mode "x" finds one there already.

    Raises HalosError where it cannot be written.
    """
    path = chosen_path(named)
    text = content(path)
    try:
        with path.open(mode, encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise HalosError(f"cannot write it: {error.strerror}: {visible(str(path))}") from error
    return True

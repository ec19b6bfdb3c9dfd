"""Searches a log from the cursor on, and copies lines of it, in threads beside the screen."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from threading import Event

from halos_backend.errors import UsageError
from textual import on
from textual.message import Message
from textual.message_pump import MessagePump

from halos_tui.formatting import plural, visible
from halos_tui.logs.file import Direction, LogFile
from halos_tui.logs.find_next import FindProgress, find_next
from halos_tui.logs.rows import LogRow
from halos_tui.screens.base import HalosScreen
from halos_tui.search_term import SearchTerm, read_term
from halos_tui.widgets.ask_line import AskLine

MOST_LINES = 1_000
MOST_CHARACTERS = 1_000_000


class FindProgressed(Message):
    """This message says how far the search is that `stopper` ends, or why it ended."""

    def __init__(self, stopper: Event, progress: FindProgress | None, problem: str = "") -> None:
        super().__init__()
        self.stopper = stopper
        self.progress = progress
        self.problem = problem


class Copied(Message):
    """This message brings what goes to the clipboard, and what is said about it."""

    def __init__(self, text: str, said: str) -> None:
        super().__init__()
        self.text = text
        self.said = said


def search(
    screen: MessagePump,
    log: LogFile,
    term: SearchTerm,
    stop: Event,
    *,
    start: int,
    direction: Direction,
) -> None:
    """Tells the screen how far it is, and then what is found."""
    try:
        for found in find_next(log, term, stop, start=start, direction=direction):
            screen.post_message(FindProgressed(stop, found))
    except UsageError as error:
        screen.post_message(FindProgressed(stop, None, visible(str(error))))


def copy_lines(screen: MessagePump, log: LogFile, starts: tuple[int, int]) -> None:
    """Copies the lines from one start to the other, as they are shown: escapes stay visible."""
    first, last = starts
    found = [line for line in log.lines_from(first, MOST_LINES) if line.start <= last]
    text = "\n".join(visible(line.text) for line in found)[:MOST_CHARACTERS]
    is_cut = len(found) == MOST_LINES or any(line.num_left_out for line in found)
    said = f"copied {plural(len(text), 'character')} ({plural(len(found), 'line')})"
    screen.post_message(Copied(text, said + ("; that is not all of it" if is_cut else "")))


class SearchingLogs(HalosScreen):
    """This is a screen with an `AskLine`, whose log has a cursor."""

    def __init__(self) -> None:
        super().__init__()
        self.finding: FindProgress | None = None
        """It says how far the search is that goes on."""
        self._stop = Event()

    @property
    def bar(self) -> AskLine:
        return self.query_one(AskLine)

    @property
    @abstractmethod
    def term(self) -> SearchTerm | None:
        """Returns what is marked, and searched for next."""

    @abstractmethod
    def here(self) -> tuple[LogFile, LogRow] | None:
        """Returns the log and the row at its cursor; None where there is none."""

    @abstractmethod
    def mark(self, term: SearchTerm | None) -> None:
        """Shows where the term is."""

    @abstractmethod
    def go_to(self, line: int, *, to_hit: bool = False) -> None:
        """Puts the cursor on the line that starts there."""

    @abstractmethod
    def close_bar(self) -> None:
        """Puts the question away."""

    @abstractmethod
    def say(self) -> None:
        """Brings the title up to date."""

    def stop_searching(self) -> None:
        self._stop.set()
        self.finding = None

    def action_search(self) -> None:
        term = self.term
        before = "" if term is None else f"{'/' * term.is_regex}{term.text}"
        self.bar.ask("search", "search", text=before, hint="words, or /pattern")

    def action_next_hit(self) -> None:
        self._search("forward")

    def action_previous_hit(self) -> None:
        self._search("backward")

    @on(AskLine.Changed)
    def _typed(self, message: AskLine.Changed) -> None:
        """Says at once only that a text is no pattern."""
        try:
            read_term(message.text)
            self.bar.refuse("")
        except UsageError as error:
            self.bar.refuse(str(error))

    @on(AskLine.Answered)
    def _answered(self, message: AskLine.Answered) -> None:
        try:
            term = read_term(message.text)
        except UsageError as error:
            self.bar.refuse(str(error))
            return
        self.close_bar()
        self.mark(term)
        self._search("forward", from_here=True)

    @on(FindProgressed)
    def _find_progressed(self, message: FindProgressed) -> None:
        if message.stopper is not self._stop or self._stop.is_set():
            return
        progress = message.progress
        self.finding = progress if progress is not None and not progress.is_over else None
        if message.problem:
            self.notify(message.problem, severity="error", markup=False)
        elif progress is not None and progress.is_over and progress.line is None:
            self.notify("not found", severity="warning", markup=False)
        elif progress is not None and progress.line is not None:
            if progress.goes_round:
                self.notify("found beyond the end of the file, from its other end", markup=False)
            self.go_to(progress.line, to_hit=True)
        self.say()

    def _search(self, direction: Direction, *, from_here: bool = False) -> None:
        """Searches from the line after the cursor's, or before it; `from_here` from that line
        itself.
        """
        term, here = self.term, self.here()
        if term is None and not from_here:
            self.action_search()
        if term is None or here is None:
            return
        file, row = here
        self._stop.set()
        self._stop = Event()
        start = row.end if direction == "forward" and not from_here else row.place[0]
        self.finding = FindProgress(0.0, 0)
        work = partial(search, self, file, term, self._stop, start=start, direction=direction)
        self.run_worker(work, thread=True)
        self.say()

"""Searches a log from the cursor on, and copies lines of it, in threads beside the screen.

A search goes round the end of the file if need be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from threading import Event
from time import monotonic

from halos_backend.errors import UsageError
from textual.message import Message
from textual.message_pump import MessagePump

from halos_tui.formatting import plural, visible
from halos_tui.logs.file import Direction, LogFile
from halos_tui.logs.rows import LogRow
from halos_tui.screens.base import HalosScreen
from halos_tui.search_term import SearchTerm

REPORT_S = 0.25

MOST_LINES = 1_000
MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class FindProgress:
    """Says how far the search is; at its end `line` is where the line found starts, or None.

    `goes_round` where that is past the end, or before the beginning.
    """

    fraction: float
    num_bytes: int
    line: int | None = None
    goes_round: bool = False
    is_over: bool = False


def find_next(
    log: LogFile, term: SearchTerm, stop: Event, *, start: int, direction: Direction
) -> Iterator[FindProgress]:
    """Searches from `start` on, or before it, then the rest; yields nothing more once `stop` is
    set.

    It is for a thread of its own. Raises UsageError for a pattern that takes too long.
    """
    size = log.status.num_bytes
    reported_t = monotonic()
    for goes_round in (False, True):
        origin = start if not goes_round else 0 if direction == "forward" else size
        for batch in log.search(term, stop, start=origin, direction=direction):
            searched = abs(batch.position - origin) + goes_round * _first_leg(
                start, size, direction
            )
            fraction = min(1.0, searched / size) if size else 1.0
            if batch.hits:
                line = batch.hits[0].line
                yield FindProgress(fraction, searched, line, goes_round, is_over=True)
                return
            if goes_round and _is_past(batch.position, start, direction):
                break
            if monotonic() - reported_t >= REPORT_S:
                reported_t = monotonic()
                yield FindProgress(fraction, searched)
    if not stop.is_set():
        yield FindProgress(1.0, size, is_over=True)


def _first_leg(start: int, size: int, direction: Direction) -> int:
    return size - start if direction == "forward" else start


def _is_past(position: int, start: int, direction: Direction) -> bool:
    return position >= start if direction == "forward" else position <= start


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


class LogSearch:
    """Is the search that goes on in the log of a screen; `progress` says how far it is.

    What it finds comes to the screen as `FindProgressed`, which the screen gives to `take`.
    """

    def __init__(self, screen: HalosScreen) -> None:
        self.progress: FindProgress | None = None
        self._screen = screen
        self._stop = Event()

    def begin(
        self, log: LogFile, row: LogRow, term: SearchTerm, direction: Direction, *, from_here: bool
    ) -> None:
        """Searches from the line after that row's, or before it; `from_here` from that line
        itself.
        """
        self._stop.set()
        self._stop = Event()
        start = row.end if direction == "forward" and not from_here else row.place[0]
        self.progress = FindProgress(0.0, 0)
        screen, stop = self._screen, self._stop
        work = partial(search, screen, log, term, stop, start=start, direction=direction)
        screen.run_worker(work, thread=True)

    def stop(self) -> None:
        self._stop.set()
        self.progress = None

    def take(self, message: FindProgressed) -> int | None:
        """Says what became of the search; returns where the line begins that it found."""
        if message.stopper is not self._stop or self._stop.is_set():
            return None
        progress = message.progress
        self.progress = progress if progress is not None and not progress.is_over else None
        if message.problem:
            self._screen.notify(message.problem, severity="error", markup=False)
        elif progress is not None and progress.is_over and progress.line is None:
            self._screen.notify("not found", severity="warning", markup=False)
        elif progress is not None and progress.goes_round and progress.line is not None:
            text = "found beyond the end of the file, from its other end"
            self._screen.notify(text, markup=False)
        return None if progress is None else progress.line

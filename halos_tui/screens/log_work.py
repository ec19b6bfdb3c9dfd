"""What the logs screen has done in threads: a search, and lines to copy."""

from __future__ import annotations

from threading import Event

from halos_backend.errors import UsageError
from textual.message import Message
from textual.message_pump import MessagePump

from halos_tui.formatting import plural, visible
from halos_tui.logs.file import Direction, LogFile
from halos_tui.logs.hunt import Hunt, hunt
from halos_tui.search_term import SearchTerm

MOST_LINES = 1_000
MOST_CHARACTERS = 1_000_000


class Hunted(Message):
    """How far the search is that `stopper` ends, or why it ended."""

    def __init__(self, stopper: Event, hunt: Hunt | None, problem: str = "") -> None:
        super().__init__()
        self.stopper = stopper
        self.hunt = hunt
        self.problem = problem


class Copied(Message):
    """What goes to the clipboard, and what is said about it."""

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
    """Tell the screen how far it is, and then what is found."""
    try:
        for found in hunt(log, term, stop, start=start, direction=direction):
            screen.post_message(Hunted(stop, found))
    except UsageError as error:
        screen.post_message(Hunted(stop, None, visible(str(error))))


def copy_lines(screen: MessagePump, log: LogFile, starts: tuple[int, int]) -> None:
    """The lines from that start to the other, as they are shown: escapes stay visible."""
    first, last = starts
    found = [line for line in log.lines_from(first, MOST_LINES) if line.start <= last]
    text = "\n".join(visible(line.text) for line in found)[:MOST_CHARACTERS]
    is_cut = len(found) == MOST_LINES or any(line.num_left_out for line in found)
    said = f"copied {plural(len(text), 'character')} ({plural(len(found), 'line')})"
    screen.post_message(Copied(text, said + ("; that is not all of it" if is_cut else "")))

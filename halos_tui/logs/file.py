"""Reads a log of any size for a screen: pages of lines by position, while the file grows.

A position is a byte offset, so nothing is read that is not shown: the last page comes from the end
of the file, others from wherever one jumps to. A line is what a
terminal is left with: a carriage return begins it anew, so of a progress bar the last state is
shown. Line numbers come later, from `LineIndex`; what is
searched for, from `search`. Everything here reads files and belongs into a thread; what goes
wrong with the file is a `LogStatus`, never an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from halos_tui.logs.blocks import LineIndex, LogBytes, LogSizes
from halos_tui.logs.search import SearchBatch, search_backward, search_forward
from halos_tui.search_term import SearchTerm

Condition = Literal["absent", "present", "deleted", "unreadable"]
Restart = Literal["replaced", "truncated"]
Direction = Literal["forward", "backward"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """This is bytes [start, end) of the file, with the newline where there is one.

    In `text` bytes that are no UTF-8 are escapes; it is not safe for a terminal yet. `num_left_out`
    are the bytes after it that are not shown. A line is complete when nothing more can come to it.
    """

    start: int
    end: int
    text: str
    num_left_out: int = 0
    is_complete: bool = True


def read_line(log: LogBytes, start: int, *, size: int) -> LogLine:
    """Reads the line that starts at `start` in a file of `size` bytes."""
    end = log.line_end(start, size)
    has_newline = log.read(end - 1, end) == b"\n"
    stop = _before_returns(log, start, end - has_newline)
    begin = max(start, log.rfind(b"\r", start, stop) + 1)
    shown = log.read(begin, min(begin + log.sizes.shown, stop))
    text = shown.decode(errors="backslashreplace")
    left_out = stop - begin - len(shown)
    return LogLine(start, end, text, left_out, is_complete=has_newline or end < size)


def _before_returns(log: LogBytes, start: int, end: int) -> int:
    """Returns one past the last byte of [start, end) that is no carriage return."""
    while start < end:
        begin = max(start, end - log.sizes.shown)
        content = log.read(begin, end)
        kept = content.rstrip(b"\r")
        if kept or begin == start:
            return begin + len(kept)
        end = begin
    return end


@dataclass(frozen=True)
class LogStatus:
    """Says how the file is, as of the last `refresh`.

    A deleted one is still shown as far as it is open. Positions of another `generation` mean
    nothing: the file was replaced or cut, and `restart` says which of both. `problem` is for a
    person, empty where there is none.
    """

    condition: Condition = "absent"
    num_bytes: int = 0
    generation: int = 0
    restart: Restart | None = None
    problem: str = ""


class LogFile:
    """Reads one log. `refresh` looks at the file; all else answers for the size it had then."""

    def __init__(self, path: Path, *, sizes: LogSizes | None = None) -> None:
        self.path = path
        self.status = LogStatus()
        self._sizes = sizes or LogSizes()
        self._log: LogBytes | None = None
        self._index: LineIndex | None = None

    def refresh(self) -> LogStatus:
        """Looks for growth, and for a file that came, went, was replaced or was cut."""
        try:
            self.status = self._looked_at()
        except OSError as error:
            reason = error.strerror or str(error)
            self.status = self._changed("unreadable", problem=f"{self.path}: {reason}")
        return self.status

    def close(self) -> None:
        """Lets go of the file; a search that is under way may end."""
        self._log = self._index = None
        self.status = LogStatus(generation=self.status.generation)

    def last_page(self, count: int) -> list[LogLine]:
        """Returns the last `count` lines."""
        return self.lines_before(self.status.num_bytes, count)

    def lines_from(self, position: int, count: int) -> list[LogLine]:
        """Returns at most `count` lines from the one at `position` on: a page down, or what is
        new.
        """
        lines: list[LogLine] = []
        log, size = self._log, self.status.num_bytes
        if log is None:
            return lines
        start = log.line_start(max(0, position)) if position < size else size
        while start < size and len(lines) < count:
            line = read_line(log, start, size=size)
            if not _is_there(log, line):
                break
            lines.append(line)
            start = line.end
        return lines

    def lines_before(self, position: int, count: int) -> list[LogLine]:
        """Returns at most `count` lines that end at `position`, a line's start, or before: a page
        up.
        """
        lines: list[LogLine] = []
        log, size = self._log, self.status.num_bytes
        if log is None:
            return lines
        end = min(position, size)
        while end > 0 and len(lines) < count:
            line = read_line(log, log.line_start(end - 1), size=size)
            if not _is_there(log, line):
                break
            lines.append(line)
            end = line.start
        return lines[::-1]

    def line_start(self, position: int) -> int:
        """Returns the start of the line at a byte: of a search hit, or of any place one jumps
        to.
        """
        if self._log is None or position <= 0:
            return 0
        return self._log.line_start(min(position, max(0, self.status.num_bytes - 1)))

    def position_at(self, fraction: float) -> int:
        """Returns the start of the line at that share of the file, 0 to 1."""
        return self.line_start(int(min(1.0, max(0.0, fraction)) * self.status.num_bytes))

    def count_lines(self, stop: Event) -> Iterator[float]:
        """Counts lines up to the size as of now; yields the share done. It is for a thread of its
        own.
        """
        index, size = self._index, self.status.num_bytes
        if index is not None:
            for counted in index.count(size, stop):
                yield counted / size if size else 1.0

    def number_of(self, position: int) -> int | None:
        """Returns the number of the line at `position`, from 1; None while it is not counted."""
        return None if self._index is None else self._index.number_of(position)

    def position_of(self, number: int) -> int | None:
        """Returns where a line of that number starts; None while it is not counted, or is not
        there.
        """
        return None if self._index is None else self._index.offset_of(number, self.status.num_bytes)

    def search(
        self,
        term: SearchTerm,
        stop: Event,
        *,
        start: int | None = None,
        direction: Direction = "forward",
    ) -> Iterator[SearchBatch]:
        """Yields hits from `start` on, or before it, up to the size as of now.

        It is for a thread of its own. Without `start` it searches the whole file. It ends early
        once `stop` is set, or when the file is cut. Raises UsageError for a pattern that takes too
        long.
        """
        log, size = self._log, self.status.num_bytes
        if log is None:
            return iter(())
        if direction == "forward":
            return search_forward(log, term, start=start or 0, size=size, stop=stop)
        return search_backward(
            log, term, start=size if start is None else start, size=size, stop=stop
        )

    def _looked_at(self) -> LogStatus:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._log is None:
                return self._changed("absent")
            return self._changed("deleted", num_bytes=self._log.num_bytes())
        if self._log is None:
            return self._opened(None)
        if (found.st_dev, found.st_ino) != self._log.identity:
            return self._opened("replaced")
        if found.st_size < self.status.num_bytes:
            return self._opened("truncated")
        return self._changed("present", num_bytes=found.st_size)

    def _opened(self, restart: Restart | None) -> LogStatus:
        """Returns a new `LogBytes` in any case: the blocks that the old one kept are of another
        file.
        """
        before = self.status
        self._log = self._index = None
        self.status = LogStatus(generation=before.generation, restart=restart or before.restart)
        log = LogBytes(self.path, self._sizes)
        self._log, self._index = log, LineIndex(log)
        return LogStatus(
            "present", log.num_bytes(), before.generation + 1, restart or before.restart
        )

    def _changed(
        self, condition: Condition, *, num_bytes: int | None = None, problem: str = ""
    ) -> LogStatus:
        before = self.status
        size = before.num_bytes if num_bytes is None else num_bytes
        return LogStatus(condition, size, before.generation, before.restart, problem)


def _is_there(log: LogBytes, line: LogLine) -> bool:
    """Returns False where the file was cut after the last look."""
    return line.end > line.start and len(log.read(line.end - 1, line.end)) == 1

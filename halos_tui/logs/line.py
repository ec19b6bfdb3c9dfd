"""Reads one line of a log as a screen shows it: what a terminal is left with, clipped.

A carriage return begins the line anew, so of a progress bar the last state is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from halos_tui.logs.blocks import LogBytes


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

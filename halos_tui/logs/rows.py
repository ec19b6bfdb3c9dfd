"""Makes the rows of a log around a place: lines wrapped or cropped to the screen, in a thread."""

from __future__ import annotations

from dataclasses import dataclass

from halos_backend.errors import UsageError

from halos_tui.formatting import size
from halos_tui.logs.file import LogFile, LogLine
from halos_tui.search_term import SearchTerm
from halos_tui.text_layout import Line, cropped, laid_out, marked, num_cells, shown

PAGES_ABOVE = 2
PAGES_BELOW = 3
STEP_LINES = 16
END = (-1, 0)
"""This is the place after the last row."""

Place = tuple[int, int]
"""A place is the byte at which a line starts, and which of its rows."""


@dataclass(frozen=True)
class RowStyle:
    """Says how lines become rows: without `wraps` they are cropped to the cells from `left` on.

    One cell more than fits is kept, so that a person sees that there is more.
    """

    width: int = 80
    wraps: bool = False
    left: int = 0
    term: SearchTerm | None = None
    is_ascii: bool = False


@dataclass(frozen=True, slots=True)
class LogRow:
    """`end` is where its line ends; `has_hit` where the term is in this very row."""

    place: Place
    end: int
    runs: Line
    has_hit: bool = False


@dataclass(frozen=True)
class LogWindow:
    """Holds rows without a gap; `at` is the one that was asked for."""

    rows: tuple[LogRow, ...] = ()
    at: int = 0
    is_first: bool = True
    is_last: bool = True


def window_at(log: LogFile, place: Place, style: RowStyle, height: int) -> LogWindow:
    """Returns the rows of some screens of that height around a place."""
    num_bytes = log.status.num_bytes
    above_rows, below_rows = PAGES_ABOVE * height, PAGES_BELOW * height
    start = num_bytes if place == END else log.line_start(place[0])
    below = _below(log, start, style, below_rows + place[1])
    above = _above(log, start, style, above_rows)
    part = min(place[1], sum(row.place[0] == start for row in below) - 1) if below else 0
    at = len(above) + part if below else max(0, len(above) - 1)
    rows = (*above, *below)
    first = max(0, at - above_rows)
    kept = rows[first : at + below_rows]
    return LogWindow(
        kept,
        at - first,
        is_first=not kept or kept[0].place == (0, 0),
        is_last=not kept or (kept[-1].end >= num_bytes and len(kept) == len(rows) - first),
    )


def column_of_hit(line: LogLine, term: SearchTerm) -> int | None:
    """Returns the cell at which the first match in a line begins; None where none is shown."""
    try:
        found = next(term.spans_in(line.text), None)
    except UsageError:
        return None
    return None if found is None else num_cells([(shown(line.text[: found[0]]), "")])


def rows_of(line: LogLine, style: RowStyle) -> list[LogRow]:
    """Returns the rows of a line: at least one."""
    found = marked(line.text, _spans(line.text, style.term), style="hit")
    if line.num_left_out:
        found.append((f" ... {size(line.num_left_out)} more", "muted"))
    if style.wraps:
        lines = laid_out(found, style.width, is_ascii=style.is_ascii)
    else:
        plain = [(shown(text, is_ascii=style.is_ascii), name) for text, name in found]
        lines = [cropped(plain, style.left, style.width + 1)]
    return [
        LogRow((line.start, part), line.end, runs, any(name == "hit" for _, name in runs))
        for part, runs in enumerate(lines)
    ]


def _spans(text: str, term: SearchTerm | None) -> list[tuple[int, int]]:
    """Returns the matches; a pattern that takes too long marks nothing, and its search says so."""
    if term is None:
        return []
    try:
        return list(term.spans_in(text))
    except UsageError:
        return []


def _below(log: LogFile, start: int, style: RowStyle, num_rows: int) -> list[LogRow]:
    rows: list[LogRow] = []
    while len(rows) < num_rows:
        lines = log.lines_from(start, STEP_LINES)
        for line in lines:
            rows += rows_of(line, style)
            if len(rows) >= num_rows:
                break
        if len(lines) < STEP_LINES:
            break
        start = lines[-1].end
    return rows


def _above(log: LogFile, start: int, style: RowStyle, num_rows: int) -> list[LogRow]:
    rows: list[LogRow] = []
    while len(rows) < num_rows:
        lines = log.lines_before(start, STEP_LINES)
        for line in reversed(lines):
            rows += reversed(rows_of(line, style))
            if len(rows) >= num_rows:
                break
        if len(lines) < STEP_LINES:
            break
        start = lines[0].start
    return rows[::-1]

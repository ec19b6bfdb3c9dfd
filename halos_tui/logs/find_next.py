"""Finds the next place of a term in a log, and goes round the end of the file if need be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from time import monotonic

from halos_tui.logs.file import Direction, LogFile
from halos_tui.search_term import SearchTerm

REPORT_S = 0.25


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

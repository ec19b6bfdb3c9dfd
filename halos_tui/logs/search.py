"""Searches an open log step by step, forwards or backwards, whole lines at a time.

It finds what the file has, also states of a progress bar that later ones have overwritten.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event

from halos_tui.logs.blocks import LogBytes
from halos_tui.search_term import SearchTerm

BATCH_HITS = 512


@dataclass(frozen=True, slots=True)
class Hit:
    """Gives the byte offsets of a match and of the line it is in."""

    offset: int
    num_bytes: int
    line: int


@dataclass(frozen=True, slots=True)
class SearchBatch:
    """Holds hits in the order of the search; all between its start and `position` is searched."""

    hits: tuple[Hit, ...]
    position: int


def search_forward(
    log: LogBytes, term: SearchTerm, *, start: int, size: int, stop: Event
) -> Iterator[SearchBatch]:
    """Yields hits at `start` or later in the first `size` bytes."""
    position = log.line_start(min(start, size))
    while position < size and not stop.is_set():
        content = _lines_from(log, position, size)
        if not content:
            return
        end = position + len(content)
        yield from _batches(
            (hit for hit in _hits(term, content, position) if hit.offset >= start), end
        )
        position = end


def search_backward(
    log: LogBytes, term: SearchTerm, *, start: int, size: int, stop: Event
) -> Iterator[SearchBatch]:
    """Yields hits before `start` in the first `size` bytes, the last one first."""
    end = min(start, size)
    line = log.line_start(end)
    if line < end:
        end = log.line_end(line, size)
    while end > 0 and not stop.is_set():
        content = _lines_before(log, end)
        if not content:
            return
        position = end - len(content)
        hits = _reversed(_hits(term, content, position))
        yield from _batches((hit for hit in hits if hit.offset < start), position)
        end = position


def _batches(hits: Iterator[Hit], position: int) -> Iterator[SearchBatch]:
    """Yields batches; the last one, perhaps an empty one, tells how far the search is."""
    batch: list[Hit] = []
    for hit in hits:
        batch.append(hit)
        if len(batch) == BATCH_HITS:
            yield SearchBatch(tuple(batch), hit.offset)
            batch = []
    yield SearchBatch(tuple(batch), position)


def _hits(term: SearchTerm, content: bytes, base: int) -> Iterator[Hit]:
    line = seen = 0
    for offset, length in term.in_lines(content):
        newline = content.rfind(b"\n", seen, offset)
        line = line if newline < 0 else newline + 1
        seen = offset
        yield Hit(base + offset, length, base + line)


def _reversed(hits: Iterator[Hit]) -> Iterator[Hit]:
    """Reverses hits, kept as numbers meanwhile: a MiB may have a million of them."""
    kept = array("Q")
    for hit in hits:
        kept.extend((hit.offset, hit.num_bytes, hit.line))
    for index in range(len(kept) - 3, -1, -3):
        yield Hit(*kept[index : index + 3])


def _lines_from(log: LogBytes, start: int, size: int) -> bytes:
    """Returns whole lines from a line's start on: one step of a search, or one line longer than
    that.
    """
    content = log.pread(start, min(start + log.sizes.search, size))
    if start + len(content) >= size:
        return content
    newline = content.rfind(b"\n")
    return content[: newline + 1] if newline >= 0 else log.pread(start, log.line_end(start, size))


def _lines_before(log: LogBytes, end: int) -> bytes:
    """Returns whole lines up to a line's end."""
    start = max(0, end - log.sizes.search)
    content = log.pread(start, end)
    if start == 0:
        return content
    newline = content.find(b"\n", 0, len(content) - 1)
    if newline >= 0:
        return content[newline + 1 :]
    return log.pread(log.line_start(end - 1), end)

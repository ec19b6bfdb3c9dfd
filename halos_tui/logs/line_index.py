"""Line numbers of a log: how many newlines its blocks have, counted while it is read once.

5 GB cost 160 KB. A line without its newline has the number it will have; the pieces of an overlong
line (see `blocks`) share one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from threading import Event

from halos_tui.logs.blocks import LogBytes

BLOCK_BYTES = 1 << 18
REPORT_BLOCKS = 64


class LineIndex:
    """Grows by whole blocks, so that nothing counted changes while the file grows."""

    def __init__(self, log: LogBytes, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._log = log
        self._block_bytes = block_bytes
        self._before = array("Q", [0])
        """Newlines before each block; one entry more than blocks are counted."""

    @property
    def num_bytes(self) -> int:
        """Counted so far, from the beginning on."""
        return (len(self._before) - 1) * self._block_bytes

    def count(self, size: int, stop: Event) -> Iterator[int]:
        """Count up to `size`; yields the bytes counted every 16 MiB. Go on with another call."""
        blocks = 0
        while self.num_bytes + self._block_bytes <= size and not stop.is_set():
            block = self._log.pread(self.num_bytes, self.num_bytes + self._block_bytes)
            if len(block) < self._block_bytes:
                return
            self._before.append(self._before[-1] + block.count(b"\n"))
            blocks += 1
            if blocks % REPORT_BLOCKS == 0:
                yield self.num_bytes
        yield self.num_bytes

    def number_of(self, offset: int) -> int | None:
        """The number of the line at `offset`, from 1; None where it is not counted yet."""
        block = offset // self._block_bytes
        if block >= len(self._before):
            return None
        before = self._log.pread(block * self._block_bytes, offset).count(b"\n")
        return self._before[block] + before + 1

    def offset_of(self, number: int, size: int) -> int | None:
        """Where line `number` starts; None where that is not counted yet or past the end."""
        if number <= 1:
            return 0 if number == 1 else None
        wanted = number - 1
        block = bisect_left(self._before, wanted) - 1
        start = block * self._block_bytes
        content = self._log.pread(start, min(start + self._block_bytes, size))
        missing = wanted - self._before[block]
        position = -1
        for _ in range(missing):
            position = content.find(b"\n", position + 1)
            if position < 0:
                return None
        found = start + position + 1
        return found if found < size else None

"""Reads an open log as bytes: blocks of it, where its lines begin and end, and their numbers.

A line ends after its newline. One longer than `piece_bytes` counts as several: it is also broken at
every multiple of `piece_bytes` with no newline in the `piece_bytes` before it. That depends on the
bytes near by alone, so lines are the same whether one comes from above or below, and nothing ever
reads a progress bar of a gigabyte as one line.

A line's number comes from how many newlines its blocks have, which are counted while the log is
read once. 5 GB cost 160 KB. A line without its newline has the number it will have; the pieces of
an overlong line share one.
"""

from __future__ import annotations

import os
import stat
import weakref
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

NUM_BLOCKS = 32

BLOCK_BYTES = 1 << 18
REPORT_BLOCKS = 64


@dataclass(frozen=True)
class LogSizes:
    """These are sizes in bytes: of a block that is kept, a line as shown, any line, a search step.

    A line at all is at least a search step; everything in memory is a small multiple of these.
    """

    block: int = 1 << 16
    shown: int = 1 << 16
    piece: int = 1 << 22
    search: int = 1 << 20


class LogBytes:
    """Reads one opened file, also when its name is gone. Reads end early on a bad disk.

    For any number of threads. The descriptor is closed with the last reference, because a search
    may still read from it. Raises OSError when it cannot be opened.
    """

    def __init__(self, path: Path, sizes: LogSizes) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no regular file")
        self.sizes = sizes
        self.identity = (found.st_dev, found.st_ino)
        self._descriptor = descriptor
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def num_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def pread(self, start: int, end: int) -> bytes:
        """Reads bytes [start, end), fewer where the file ends; they are not kept."""
        parts = []
        while start < end:
            try:
                part = os.pread(self._descriptor, end - start, start)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read(self, start: int, end: int) -> bytes:
        """Reads bytes [start, end) by way of the blocks that are kept."""
        size = self.sizes.block
        parts = []
        for number in range(start // size, -(-end // size)):
            block = self._block(number)
            parts.append(block[max(0, start - number * size) : max(0, end - number * size)])
        return b"".join(parts)

    def find(self, needle: bytes, start: int, end: int) -> int:
        """Returns the first place of one byte in [start, end), or -1."""
        size = self.sizes.block
        for number in range(start // size, -(-end // size)):
            base = number * size
            found = self._block(number).find(needle, max(0, start - base), max(0, end - base))
            if found >= 0:
                return base + found
        return -1

    def rfind(self, needle: bytes, start: int, end: int) -> int:
        """Returns the last place of one byte in [start, end), or -1."""
        size = self.sizes.block
        for number in range(-(-end // size) - 1, start // size - 1, -1):
            base = number * size
            found = self._block(number).rfind(needle, max(0, start - base), max(0, end - base))
            if found >= 0:
                return base + found
        return -1

    def line_start(self, offset: int) -> int:
        """Returns the start of the line that has the byte at `offset`."""
        piece = self.sizes.piece
        multiple = offset // piece * piece
        newline = self.rfind(b"\n", multiple, offset)
        if newline >= 0 or multiple == 0:
            return newline + 1
        newline = self.rfind(b"\n", multiple - piece, multiple)
        return multiple if newline < 0 else newline + 1

    def line_end(self, start: int, size: int) -> int:
        """Returns one past the line that starts at `start`, in a file of `size` bytes."""
        piece = self.sizes.piece
        limit = min(-(-start // piece) * piece + piece, size)
        newline = self.find(b"\n", start, limit)
        return limit if newline < 0 else newline + 1

    def _block(self, number: int) -> bytes:
        with self._lock:
            kept = self._blocks.get(number)
            if kept is not None:
                self._blocks.move_to_end(number)
                return kept
        size = self.sizes.block
        block = self.pread(number * size, (number + 1) * size)
        if len(block) == size:  # a shorter one may still grow
            with self._lock:
                self._blocks[number] = block
                if len(self._blocks) > NUM_BLOCKS:
                    self._blocks.popitem(last=False)
        return block


class LineIndex:
    """Grows by whole blocks, so that nothing counted changes while the file grows."""

    def __init__(self, log: LogBytes, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._log = log
        self._block_bytes = block_bytes
        self._before = array("Q", [0])
        """It holds the newlines before each block; one entry more than blocks are counted."""

    @property
    def num_bytes(self) -> int:
        """Counts the bytes that are indexed so far, from the beginning on."""
        return (len(self._before) - 1) * self._block_bytes

    def count(self, size: int, stop: Event) -> Iterator[int]:
        """Counts lines up to `size`; yields the bytes counted every 16 MiB. Another call goes
        on.
        """
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
        """Returns the number of the line at `offset`, from 1; None where it is not counted yet."""
        block = offset // self._block_bytes
        if block >= len(self._before):
            return None
        before = self._log.pread(block * self._block_bytes, offset).count(b"\n")
        return self._before[block] + before + 1

    def offset_of(self, number: int, size: int) -> int | None:
        """Returns where line `number` starts; None where that is not counted yet or past the
        end.
        """
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

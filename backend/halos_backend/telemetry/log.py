"""Owns `<run>/telemetry.jsonl`: appends to it, rotates it, reads its end.

It is a record for people, not for recovery: nothing is flushed to disk, and whatever line cannot be
read is passed over.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from halos_backend.records import BAD_JSON, encode_row
from halos_backend.store.run_dir import RunDir
from halos_backend.telemetry.reading import Reading

MAX_BYTES = 16 << 20
BLOCK_BYTES = 64 << 10

_decoder = msgspec.json.Decoder(Reading)


class TelemetryLog:
    """Is the one writer. At `max_bytes` the file becomes the old one, and the old one is
    deleted.
    """

    def __init__(self, run_dir: RunDir, *, max_bytes: int = MAX_BYTES) -> None:
        self._run_dir = run_dir
        self._max_bytes = max_bytes
        self._fd: int | None = None

    def append(self, reading: Reading) -> None:
        """Writes one line, whole or not at all. Raises OSError."""
        line = encode_row(reading)
        fd, size = self._open(len(line))
        try:
            if os.write(fd, line) == len(line):
                return
        except OSError:
            os.ftruncate(fd, size)
            raise
        os.ftruncate(fd, size)
        raise OSError(f"{self._run_dir.telemetry}: the disk took a part of a line only")

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def _open(self, num_bytes: int) -> tuple[int, int]:
        """Returns a file with room for that many bytes, and its size."""
        fd, size = self._current()
        if size and size + num_bytes > self._max_bytes:
            self._run_dir.telemetry.replace(self._run_dir.old_telemetry)
            self.close()
            fd, size = self._current()
        return fd, size

    def _current(self) -> tuple[int, int]:
        """Returns the file as it is now, made anew where somebody deleted it, with a torn tail
        ended.
        """
        if self._fd is not None:
            found = os.fstat(self._fd)
            if found.st_nlink:
                return self._fd, found.st_size
            self.close()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self._run_dir.telemetry, flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                size += os.write(fd, b"\n")
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return fd, size


def telemetry_tail(run_dir: RunDir, count: int) -> list[Reading]:
    """Returns the last `count` readings, oldest first; fewer where there are no more."""
    newest = _tail(run_dir.telemetry, count)
    if len(newest) == count:
        return newest
    older = _tail(run_dir.old_telemetry, count - len(newest))
    # the file may have been rotated between the two reads, and be seen twice
    return [old for old in older if not newest or old.t < newest[0].t] + newest


def _tail(path: Path, count: int) -> list[Reading]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            block = BLOCK_BYTES
            while True:
                start = max(0, size - block)
                file.seek(start)
                lines = file.read(size - start).split(b"\n")
                # a block begins in the middle of a line, and what follows the last newline is torn
                readings = _decode(lines[1 if start else 0 : -1], count)
                if len(readings) == count or start == 0:
                    return readings
                block *= 4
    except OSError:
        return []


def _decode(lines: list[bytes], count: int) -> list[Reading]:
    """Returns the last `count` lines that are readings."""
    readings: list[Reading] = []
    for line in reversed(lines):
        if len(readings) == count:
            break
        try:
            readings.append(_decoder.decode(line))
        except BAD_JSON:
            continue
    return readings[::-1]

"""Appends events to a JSON Lines file: one writer, one `write` a record, torn tails ended first."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import msgspec

from halos_backend import atomic
from halos_backend.events import Event


class EventWriter:
    """Is the one writer of one journal.

    A record is written whole or not at all: after a failed write (disk full) the file is cut back
    to the record's start and the error raised.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoder = msgspec.json.Encoder()
        is_new = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end_torn_tail()
        if is_new:
            atomic.fsync_dir(path.parent)

    def append(self, event: Event, *, durable: bool = False) -> None:
        """Writes one event; `durable` flushes it to disk. Raises OSError with nothing written."""
        start = os.fstat(self._fd).st_size
        record = self._encoder.encode(event) + b"\n"
        try:
            self._write(record)
            if durable:
                os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, start)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    @property
    def size(self) -> int:
        """Counts the bytes in the file so far."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, record: bytes) -> None:
        while record:
            record = record[os.write(self._fd, record) :]

    def _end_torn_tail(self) -> None:
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._write(b"\n")

"""Reads journals that may be growing: whole lines only, bytes not text, corrupt lines by number.

A torn line that a later writer ended with a newline was never acknowledged: readers skip a line
that is the beginning of a JSON value. Any other line that is no event of ours is corrupt and named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from halos_backend import SCHEMA_VERSION, __version__
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.events import AttemptEvent, RunEvent, attempt_event_decoder, run_event_decoder
from halos_backend.records import BAD_JSON

EventT = TypeVar("EventT")


class _Version(msgspec.Struct):
    schema_version: int = 0
    version: str = ""


class JournalReader(Generic[EventT]):
    """Follows one journal from `offset` on; `read` returns what is new and complete.

    With `max_bytes` one call reads about that much, and what is left is for the next one.
    """

    def __init__(
        self,
        path: Path,
        decoder: msgspec.json.Decoder[Any],
        *,
        offset: int = 0,
        max_bytes: int | None = None,
    ) -> None:
        self.path = path
        self.offset = offset
        self._decoder = decoder
        self._max_bytes = max_bytes

    def read(self) -> list[EventT]:
        """Returns new events since the last call; none when the file is not there yet.

        Raises CorruptFileError for a line that is not an event, or when the file became shorter.
        """
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self.offset:
                    raise CorruptFileError(
                        f"{self.path} became shorter ({self.offset} to {size} bytes):"
                        " something other than halos-tui changed it"
                    )
                file.seek(self.offset)
                content = self._next(file, size - self.offset)
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        events = list(self._decode(complete))
        self.offset += len(complete)
        return events

    def _next(self, file: BinaryIO, left: int) -> bytes:
        """Returns at most `max_bytes`, or as many as one line has."""
        if self._max_bytes is None or left <= self._max_bytes:
            return file.read(left)
        content = file.read(self._max_bytes)
        return content if b"\n" in content else content + file.read(left - len(content))

    def _decode(self, content: bytes) -> Iterator[EventT]:
        for index, line in enumerate(content.split(b"\n")):
            if not line.strip():
                continue
            try:
                yield self._decoder.decode(line)
            except BAD_JSON as error:
                if not _is_torn(line):
                    self._refuse_later_version()
                    number = self._lines_before() + index + 1
                    raise CorruptFileError(
                        f"{self.path}, line {number}: {_why(line, error)}"
                    ) from error

    def _refuse_later_version(self) -> None:
        """Raises UsageError where the journal's first record says that a later version wrote it."""
        with self.path.open("rb") as file, contextlib.suppress(*BAD_JSON):
            first = msgspec.json.decode(file.readline(), type=_Version)
            if first.schema_version > SCHEMA_VERSION:
                raise UsageError(
                    f"{self.path} is of a later halos-tui ({first.version}, schema"
                    f" {first.schema_version}; this one is {__version__}, schema {SCHEMA_VERSION}):"
                    " install that version to go on with the run"
                )

    def _lines_before(self) -> int:
        with self.path.open("rb") as file:
            return file.read(self.offset).count(b"\n")


def _is_torn(line: bytes) -> bool:
    """Says whether the line is the beginning of a JSON value: the error is that nothing follows."""
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        return "truncated" in str(error) or str(error).endswith(f"number (byte {len(line)})")
    except BAD_JSON:
        return False
    return False


def _why(line: bytes, error: Exception) -> str:
    if str(error).endswith("- at `$.type`"):
        return (
            f"halos-tui {__version__} knows no such event; was it written by a newer version?"
            f" ({error})"
        )
    return f"{error}: {line[:80].decode(errors='backslashreplace')!r}"


def run_journal(
    path: Path, *, offset: int = 0, max_bytes: int | None = None
) -> JournalReader[RunEvent]:
    return JournalReader(path, run_event_decoder, offset=offset, max_bytes=max_bytes)


def attempt_journal(
    path: Path, *, offset: int = 0, max_bytes: int | None = None
) -> JournalReader[AttemptEvent]:
    return JournalReader(path, attempt_event_decoder, offset=offset, max_bytes=max_bytes)


def tail_lines(path: Path, count: int) -> list[str]:
    """Returns the last `count` lines of a log, decoded with replacement; reads at most 64 KiB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 65536))
            content = file.read()
    except OSError:
        return []
    return content.decode(errors="replace").splitlines()[-count:]

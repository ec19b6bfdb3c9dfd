"""Remembers the files a run was created with, and finds those that are no longer the same.

A file's bytes are read again only where its size, time or inode differ from what was noted, because
a policy has gigabytes. Which files matter is the prepare stage's to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from halos_backend import atomic
from halos_backend.records import BAD_JSON
from halos_backend.store.manifest import sha256_of
from halos_backend.store.run_dir import RunDir


class InputFile(msgspec.Struct, frozen=True):
    """A file as it was when it was looked at last.

    `what` is the setting, or the file of the run directory, that it belongs to. `path` is absolute,
    or relative to the run directory.
    """

    what: str
    path: str
    bytes: int
    mtime_ns: int
    inode: int
    sha256: str


class FoundChange(msgspec.Struct, frozen=True):
    """`now` is None where the file is gone or cannot be read, which `reason` says."""

    before: InputFile
    now: InputFile | None
    reason: str


class _Prepared(msgspec.Struct):
    inputs: list[InputFile] = []


def look_at_file(what: str, path: Path, run_dir: RunDir) -> InputFile:
    """Note a file with its digest. Raises OSError."""
    absolute = path.absolute()
    inside = absolute.is_relative_to(run_dir.path.absolute())
    status = absolute.stat()  # before the bytes: a write meanwhile is found at the next look
    return InputFile(
        what=what,
        path=str(absolute.relative_to(run_dir.path.absolute()) if inside else absolute),
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        sha256=sha256_of(absolute),
    )


def find_changes(run_dir: RunDir, noted: Sequence[InputFile]) -> list[FoundChange]:
    """The files whose bytes are not those that were noted."""
    found = (_find_change(run_dir, file) for file in noted)
    return [change for change in found if change is not None]


def read_inputs(run_dir: RunDir) -> list[InputFile]:
    """What was noted at the run's creation; nothing for a run of an earlier version."""
    try:
        return msgspec.json.decode(run_dir.prepared.read_bytes(), type=_Prepared).inputs
    except (OSError, *BAD_JSON):
        return []


def touch_up(run_dir: RunDir, noted: Sequence[InputFile]) -> list[InputFile]:
    """`noted` with the times and inodes of now, for files whose bytes are still the same."""
    return [_touched_up(run_dir, file) for file in noted]


def write_inputs(run_dir: RunDir, noted: Sequence[InputFile]) -> None:
    """Note the files anew; a disk that refuses it costs no more than time at the next look."""
    with contextlib.suppress(OSError, *BAD_JSON):
        found = msgspec.json.decode(run_dir.prepared.read_bytes())
        found["inputs"] = msgspec.to_builtins(noted)
        atomic.write_bytes(run_dir.prepared, msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def _find_change(run_dir: RunDir, file: InputFile) -> FoundChange | None:
    path = run_dir.path / file.path
    try:
        if _looks_the_same(path, file):
            return None
        now = look_at_file(file.what, path, run_dir)
    except OSError as error:
        return FoundChange(file, None, error.strerror or str(error))
    if now.sha256 == file.sha256:
        return None
    how = f"{now.bytes} bytes, not {file.bytes}" if now.bytes != file.bytes else "other bytes"
    return FoundChange(file, now, how)


def _touched_up(run_dir: RunDir, file: InputFile) -> InputFile:
    try:
        status = (run_dir.path / file.path).stat()
    except OSError:
        return file
    return replace(
        file, bytes=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino
    )


def _looks_the_same(path: Path, file: InputFile) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns, status.st_ino) == (
        file.bytes,
        file.mtime_ns,
        file.inode,
    )

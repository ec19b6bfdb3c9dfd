"""Notes the files that a run was created with, and checks later whether they are still the same.

A file's bytes are read again only where its size, time or inode differ from what was noted, because
a policy has gigabytes. The prepare stage says which files matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from halos_backend import atomic
from halos_backend.findings import InputFile, Prepared
from halos_backend.records import BAD_JSON
from halos_backend.store.manifest import sha256_of
from halos_backend.store.run_dir import RunDir


def look_at(what: str, path: Path, run_dir: RunDir) -> InputFile:
    """Returns the file as it is now, with its digest. Raises OSError."""
    path, root = path.absolute(), run_dir.path.absolute()
    status = path.stat()  # before the bytes, so that a write meanwhile shows at the next look
    return InputFile(
        what=what,
        path=str(path.relative_to(root) if path.is_relative_to(root) else path),
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        sha256=sha256_of(path),
    )


def look_again(file: InputFile, run_dir: RunDir) -> InputFile:
    """Returns the noted file as it is now: the same object where it looks untouched. Raises
    OSError.
    """
    path = run_dir.path / file.path
    status = path.stat()
    now = (status.st_size, status.st_mtime_ns, status.st_ino)
    if now == (file.bytes, file.mtime_ns, file.inode):
        return file
    return look_at(file.what, path, run_dir)


def read_inputs(run_dir: RunDir) -> list[InputFile]:
    """Returns what was noted when the run was created; nothing where an earlier version
    created it.
    """
    try:
        return msgspec.json.decode(run_dir.prepared.read_bytes(), type=Prepared).inputs or []
    except (OSError, *BAD_JSON):
        return []


def write_inputs(run_dir: RunDir, files: Sequence[InputFile]) -> None:
    """Notes the files anew; where a disk refuses that, only the next check takes longer."""
    with contextlib.suppress(OSError, *BAD_JSON):
        found = msgspec.json.decode(run_dir.prepared.read_bytes())
        found["inputs"] = msgspec.to_builtins(files)
        atomic.write_bytes(
            run_dir.prepared, msgspec.json.format(msgspec.json.encode(found)) + b"\n"
        )

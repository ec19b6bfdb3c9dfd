"""Examines the disk and the file system under the runs directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from halos_backend.findings import GIB, Finding, in_gib

MIN_FREE_BYTES = 2 * GIB
FIX_ROOT = "set HALOS_RUNS_DIR (or --runs-dir) to a directory on a local disk"


def examine_runs_root(runs_root: Path) -> list[Finding]:
    """Examines free space, and whether locks, renames and links work there. Leaves
    nothing behind.
    """
    place = existing_parent(runs_root)
    free = shutil.disk_usage(place).free
    text = f"{runs_root}: {in_gib(free)} free"
    space = (
        Finding("ok", "disk", text)
        if free >= MIN_FREE_BYTES
        else Finding("warning", "disk", text, f"free some space, or {FIX_ROOT}")
    )
    return [space, examine_file_system(place)]


def existing_parent(path: Path) -> Path:
    """Returns the path itself, or the nearest directory above it that exists."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def examine_file_system(place: Path) -> Finding:
    """Tries what a run needs, in a directory of its own that is removed again."""
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".halos-doctor-") as name:
            missing = find_missing_ability(Path(name))
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("problem", "runs directory", f"{place}: cannot write: {reason}", FIX_ROOT)
    if missing is not None:
        return Finding("problem", "runs directory", f"{place}: {missing}", FIX_ROOT)
    return Finding("ok", "runs directory", f"{place}: locks, renames and links work")


def find_missing_ability(directory: Path) -> str | None:
    """Says what the file system of `directory` cannot do; None where it can do all."""
    if (reason := _find_lock_failure(directory / "lock")) is not None:
        return reason
    try:
        (directory / "new").write_bytes(b"new")
        (directory / "old").write_bytes(b"old")
        (directory / "new").replace(directory / "old")
        if (directory / "old").read_bytes() != b"new":
            return "a rename does not replace the old file"
        (directory / "link").symlink_to("old")
    except OSError as error:
        return f"renames or links fail: {error.strerror}"
    return None


def _find_lock_failure(path: Path) -> str | None:
    """Says why locks do not work: two open files of one process hold theirs apart, so one process
    tries both.
    """
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2))
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return "locks are given to everybody, so two supervisors could run one run"
    except OSError as error:
        return f"files cannot be locked: {error.strerror}"
    finally:
        os.close(first)
        os.close(second)

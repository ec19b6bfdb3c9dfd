"""Finds this process's memory cgroup, of version 1 or 2, and reads its limit, use and kills.

A container often shows its cgroup as the root of the tree: levels that are not there are passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class _Files(NamedTuple):
    """Names of a version's files, and the key of the file cache that can be given back."""

    limit: str
    usage: str
    cache_key: bytes
    kills: str


VERSION_1 = _Files(
    "memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file", "memory.oom_control"
)
VERSION_2 = _Files("memory.max", "memory.current", b"inactive_file", "memory.events")


class MemoryUse(NamedTuple):
    """Of the cgroup with the lowest limit, in bytes; `used` leaves out what is only cached."""

    limit: int
    used: int


class MemoryCgroup:
    """The cgroup at the time of its making, and those above it."""

    def __init__(self, *, proc: Path = PROC, root: Path = CGROUPS) -> None:
        self._files, self._levels = _find(proc, root)

    def use(self) -> MemoryUse | None:
        """None where no limit is set, or none can be read."""
        limits = [
            (limit, level)
            for level in self._levels
            if (limit := _read_number(level / self._files.limit)) is not None
        ]
        if not limits:
            return None
        limit, level = min(limits)
        usage = _read_number(level / self._files.usage)
        if usage is None:
            return None
        cached = read_field(level / "memory.stat", self._files.cache_key) or 0
        return MemoryUse(limit, max(0, usage - cached))

    def num_oom_kills(self) -> int | None:
        """Processes killed for memory so far, in the nearest level that counts them."""
        for level in self._levels:
            kills = read_field(level / self._files.kills, b"oom_kill")
            if kills is not None:
                return kills
        return None


def read_field(path: Path, key: bytes) -> int | None:
    """The number after `key` in a file of `key number` lines; None where either is missing."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(b" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return None


def _read_number(path: Path) -> int | None:
    """None where it is missing, or `max`."""
    try:
        content = path.read_bytes().strip()
    except OSError:
        return None
    return int(content) if content.isdigit() else None


def _find(proc: Path, root: Path) -> tuple[_Files, tuple[Path, ...]]:
    """The version that accounts for memory, and the levels that are there, the own one first."""
    try:
        lines = (proc / "self" / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return VERSION_2, ()
    version_2: tuple[Path, ...] = ()
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return VERSION_1, tuple(_existing_levels(root / "memory", path))
        if number == "0":
            version_2 = tuple(_existing_levels(root, path))
    return VERSION_2, version_2


def _existing_levels(root: Path, path: str) -> Iterator[Path]:
    # a process outside its namespace's root has a path such as /../x, which leads nowhere from here
    own = PurePosixPath("/" if ".." in path.split("/") else path)
    for level in (own, *own.parents):
        folder = root / level.as_posix().lstrip("/")
        if folder.is_dir():
            yield folder

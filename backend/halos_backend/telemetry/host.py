"""Reads the host: processors, memory, the run's disk, the memory cgroup, and kills for want of
memory.

`psutil` would cost 1.7 MB of the supervisor's memory for these few lines of /proc. The cgroup may
be of version 1 or 2. A container often shows its cgroup as the root of the tree: levels that are
not there are passed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from halos_backend.telemetry.reading import HostReading

KIB = 1024

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def read_oom_kills(*, proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Counts the processes of this process's cgroup that were killed for memory so far; None if
    unknown.
    """
    return MemoryCgroup(proc=proc, root=cgroups).num_oom_kills()


class _Memory(NamedTuple):
    used_bytes: int | None = None
    available_bytes: int | None = None
    total_bytes: int | None = None


class _Ticks(NamedTuple):
    """Counts clock ticks of all cores together since the machine's start."""

    busy: int
    total: int


class Host:
    """Reads the machine as a run in `run_path` sees it. What cannot be read is None."""

    def __init__(self, run_path: Path, *, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._run_path = run_path
        self._stat = proc / "stat"
        self._meminfo = proc / "meminfo"
        self._cgroup = MemoryCgroup(proc=proc, root=cgroups)
        self._ticks: _Ticks | None = None

    def read(self) -> HostReading:
        memory = self._read_memory()
        free, total = self._read_disk()
        return HostReading(
            cpu_frac=self._read_cpu(),
            load_1min=_read_load(),
            memory_used_bytes=memory.used_bytes,
            memory_available_bytes=memory.available_bytes,
            memory_total_bytes=memory.total_bytes,
            disk_free_bytes=free,
            disk_total_bytes=total,
            num_oom_kills=self._cgroup.num_oom_kills(),
        )

    def _read_cpu(self) -> float | None:
        before, self._ticks = self._ticks, _read_ticks(self._stat)
        if before is None or self._ticks is None or self._ticks.total <= before.total:
            return None
        frac = (self._ticks.busy - before.busy) / (self._ticks.total - before.total)
        return round(min(1.0, max(0.0, frac)), 4)  # time waited for disks may be counted back

    def _read_memory(self) -> _Memory:
        try:
            fields = dict(line.split(b":") for line in self._meminfo.read_bytes().splitlines()[:5])
            total = int(fields[b"MemTotal"].split()[0]) * KIB
            available = int(fields[b"MemAvailable"].split()[0]) * KIB
        except (OSError, ValueError, KeyError, IndexError):
            return _Memory()
        use = self._cgroup.use()
        if use is None or use.limit >= total:
            return _Memory(total - available, available, total)
        return _Memory(use.used, min(available, max(0, use.limit - use.used)), use.limit)

    def _read_disk(self) -> tuple[int | None, int | None]:
        """Returns (free, total) bytes."""
        try:
            found = os.statvfs(self._run_path)
        except OSError:
            return None, None
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _read_ticks(stat: Path) -> _Ticks | None:
    """Reads the first line: user, nice, system, idle, iowait, irq, softirq, steal; guests are in
    user.
    """
    try:
        ticks = [int(field) for field in stat.read_bytes().split(b"\n", 1)[0].split()[1:9]]
        return _Ticks(sum(ticks) - ticks[3] - ticks[4], sum(ticks))
    except (OSError, ValueError, IndexError):
        return None


def _read_load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


class _Files(NamedTuple):
    """Names the files of a cgroup version: names of a version's files, and the key of the file
    cache that can be given back.
    """

    limit: str
    usage: str
    cache_key: bytes
    kills: str


VERSION_1 = _Files(
    "memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file", "memory.oom_control"
)
VERSION_2 = _Files("memory.max", "memory.current", b"inactive_file", "memory.events")


class MemoryUse(NamedTuple):
    """Holds the memory of the cgroup with the lowest limit, in bytes; `used` leaves out what is
    only cached.
    """

    limit: int
    used: int


class MemoryCgroup:
    """Is the cgroup at the time of its making, and those above it."""

    def __init__(self, *, proc: Path = PROC, root: Path = CGROUPS) -> None:
        self._files, self._levels = _find(proc, root)

    def use(self) -> MemoryUse | None:
        """Returns the use of memory; None where no limit is set, or none can be read."""
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
        """Counts the processes killed for memory so far, in the nearest level that counts them."""
        for level in self._levels:
            kills = read_field(level / self._files.kills, b"oom_kill")
            if kills is not None:
                return kills
        return None


def read_field(path: Path, key: bytes) -> int | None:
    """Returns the number after `key` in a file of `key number` lines; None where either
    is missing.
    """
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
    """Reads a number; None where it is missing, or `max`."""
    try:
        content = path.read_bytes().strip()
    except OSError:
        return None
    return int(content) if content.isdigit() else None


def _find(proc: Path, root: Path) -> tuple[_Files, tuple[Path, ...]]:
    """Returns the version that accounts for memory, and the levels that are there, the own one
    first.
    """
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

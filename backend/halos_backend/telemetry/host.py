"""Reads the host: processors, memory, the run's disk, and kills for want of memory.

`psutil` would cost 1.7 MB of the supervisor's memory for these few lines of /proc.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from halos_backend.telemetry.cgroup import CGROUPS, PROC, MemoryCgroup
from halos_backend.telemetry.reading import HostReading

KIB = 1024


def read_oom_kills(*, proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Processes of this process's cgroup that were killed for memory so far; None if unknown."""
    return MemoryCgroup(proc=proc, root=cgroups).num_oom_kills()


class _Memory(NamedTuple):
    used_bytes: int | None = None
    available_bytes: int | None = None
    total_bytes: int | None = None


class _Ticks(NamedTuple):
    """Clock ticks of all cores together since the machine's start."""

    busy: int
    total: int


class Host:
    """The machine as a run in `run_path` sees it. What cannot be read is None."""

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
        """(free, total) bytes."""
        try:
            found = os.statvfs(self._run_path)
        except OSError:
            return None, None
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def _read_ticks(stat: Path) -> _Ticks | None:
    """The first line: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user."""
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

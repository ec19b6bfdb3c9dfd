"""Owns what one reading of the machine finds: a line of `<run>/telemetry.jsonl`.

A field that could not be read is None and left out of the line.
"""

from __future__ import annotations

import msgspec

from halos_backend.events import Stage

Key = tuple[int, Stage]
"""Names a running stage: (round, stage)."""


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Is a process that computes on a GPU.

    `name` and `user` are None where the process is not visible from here, as in most containers.
    `round` and `stage` say which stage of this run it belongs to; None for everybody else's.
    """

    pid: int
    used_bytes: int | None = None
    name: str | None = None
    user: str | None = None
    round: int | None = None
    stage: Stage | None = None


class GpuReading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describes one GPU. `energy_j` counts from the load of the driver; `utilization_frac` is 0..1.

    `lost` is the driver's reason where the GPU no longer answers; then nothing else is known.
    """

    index: int
    uuid: str | None = None
    name: str | None = None
    utilization_frac: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    energy_j: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    lost: str | None = None


class HostReading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describes the machine, or as much of it as the memory cgroup allows.

    `cpu_frac` is 0..1 over all cores since the reading before; the first one has none. Disk is the
    run directory's file system, `disk_free_bytes` what its owner may still write there.
    """

    cpu_frac: float | None = None
    load_1min: float | None = None
    memory_used_bytes: int | None = None
    memory_available_bytes: int | None = None
    memory_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    num_oom_kills: int | None = None


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Holds everything at once; `t` is Unix seconds, when the reading began."""

    t: float
    host: HostReading
    gpus: tuple[GpuReading, ...] = ()

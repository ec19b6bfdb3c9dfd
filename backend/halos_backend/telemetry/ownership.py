"""Says which GPU processes belong to which running stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from msgspec.structs import replace

from halos_backend.telemetry.reading import GpuProcess, GpuReading, Key

StageProcesses = Callable[[], Mapping[Key, Collection[int]]]
"""The pids of each running stage's whole tree. It is called from the sampler's thread."""


def mark_owners(gpus: tuple[GpuReading, ...], find: StageProcesses) -> tuple[GpuReading, ...]:
    """The readings with the run's own processes marked.

    `find` looks through every process of the machine, so it is asked only where one is on a GPU.
    """
    if not any(gpu.processes for gpu in gpus):
        return gpus
    owners = {pid: key for key, pids in find().items() for pid in pids}
    return tuple(_marked(gpu, owners) for gpu in gpus)


def _marked(gpu: GpuReading, owners: Mapping[int, Key]) -> GpuReading:
    if not any(process.pid in owners for process in gpu.processes or ()):
        return gpu
    marked = tuple(_owned(process, owners.get(process.pid)) for process in gpu.processes or ())
    return replace(gpu, processes=marked)


def _owned(process: GpuProcess, owner: Key | None) -> GpuProcess:
    return process if owner is None else replace(process, round=owner[0], stage=owner[1])

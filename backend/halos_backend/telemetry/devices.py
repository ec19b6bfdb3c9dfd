"""Says which GPUs are a run's, who holds memory on them, and which stage each GPU process belongs
to.

It is pure but for `mark_owners`, which asks for the processes: it looks at readings only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from halos_backend.telemetry.reading import GpuProcess, GpuReading, Key

HELD_BYTES = 1 << 30
"""Is what a GPU that nobody uses may show: the driver's own share, and contexts that idle."""

StageProcesses = Callable[[], Mapping[Key, Collection[int]]]
"""Returns the pids of each running stage's whole tree. It is called from the sampler's thread."""


def select_gpus(
    gpus: Sequence[GpuReading], devices: Sequence[int] | None, *, visible: str | None = None
) -> tuple[GpuReading, ...]:
    """Returns the GPUs of a run: of these numbers, or where `devices` is None those that CUDA shows
    it.

    `visible` is the environment's CUDA_VISIBLE_DEVICES: numbers and beginnings of GPU-uuids, read
    as CUDA does, up to the first that names no GPU; None is all. Numbers are NVML's, which are
    CUDA's under CUDA_DEVICE_ORDER=PCI_BUS_ID. A part of a GPU (MIG-...) counts as the whole.
    """
    if devices is not None:
        return tuple(gpu for gpu in gpus if gpu.index in devices)
    if visible is None:
        return tuple(gpus)
    chosen: list[GpuReading] = []
    for entry in visible.split(","):
        found = [gpu for gpu in gpus if _is_named(gpu, entry.strip())]
        if len(found) != 1:
            break
        if found[0] not in chosen:
            chosen.append(found[0])
    return tuple(chosen)


def _is_named(gpu: GpuReading, entry: str) -> bool:
    if entry.isdecimal():
        return gpu.index == int(entry)
    return entry.startswith("GPU-") and gpu.uuid is not None and gpu.uuid.startswith(entry)


class Holder(NamedTuple):
    """Says who holds memory on a GPU; `process` is None for memory that no visible process
    explains.
    """

    gpu: int
    used_bytes: int | None
    process: GpuProcess | None

    def __str__(self) -> str:
        if self.process is None:
            return f"processes that are not visible from here, on GPU {self.gpu}"
        who = f"process {self.process.pid}"
        if self.process.name is not None:
            who = f"{self.process.name} (process {self.process.pid}"
            who += f" of {self.process.user})" if self.process.user is not None else ")"
        return f"{who}, on GPU {self.gpu}"


def holders(
    gpus: Sequence[GpuReading],
    *,
    tolerated: Collection[int] = (),
    above_bytes: int = HELD_BYTES,
) -> tuple[Holder, ...]:
    """Returns who but the pids `tolerated` holds more than `above_bytes` on one of these GPUs.

    A process whose share the driver does not tell (MIG) counts while its GPU as a whole is above.
    """
    return tuple(holder for gpu in gpus for holder in _holders(gpu, tolerated, above_bytes))


def _holders(gpu: GpuReading, tolerated: Collection[int], above_bytes: int) -> Iterator[Holder]:
    used_bytes = gpu.memory_used_bytes or 0
    processes = gpu.processes or ()
    for process in processes:
        held = used_bytes if process.used_bytes is None else process.used_bytes
        if held > above_bytes and process.pid not in tolerated:
            yield Holder(gpu.index, process.used_bytes, process)
    shares = [process.used_bytes for process in processes]
    if None in shares:
        return
    unexplained = used_bytes - sum(share for share in shares if share is not None)
    if unexplained > above_bytes:
        yield Holder(gpu.index, unexplained, None)


def mark_owners(gpus: tuple[GpuReading, ...], find: StageProcesses) -> tuple[GpuReading, ...]:
    """Returns the readings with the run's own processes marked.

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

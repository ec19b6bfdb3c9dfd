"""Whether parked workers hold more of the GPUs than they should. Pure: it looks at readings only.

An engine that sleeps keeps a little, and more of it from round to round (vLLM's issue 36651: 0.4 to
5.2 GiB in a day); one that failed to give its memory back keeps most of a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from halos_backend.events import Stage
from halos_backend.telemetry.reading import GpuReading

ROOM_BYTES = 2 << 30
"""What a worker may hold beyond the first time that it was parked."""
MOST_FRAC = 0.25
"""Of a GPU, however much it held then."""

Worker = tuple[Stage, int, int]
"""A stage, the worker's first process, a GPU."""


class ParkedMemory:
    """What the workers of one run held of each GPU when they were first seen parked."""

    def __init__(self) -> None:
        self._first_bytes: dict[Worker, int] = {}

    def overdrawn(
        self, gpus: Sequence[GpuReading], parked: Mapping[Stage, Collection[int]]
    ) -> dict[Stage, int]:
        """The stages whose workers, of these pids, hold too much of a GPU, and how many bytes."""
        found: dict[Stage, int] = {}
        for stage, pids in parked.items():
            for gpu in gpus:
                held = sum(p.used_bytes or 0 for p in gpu.processes or () if p.pid in pids)
                if held and held > self._limit((stage, min(pids), gpu.index), held, gpu):
                    found[stage] = max(held, found.get(stage, 0))
        return found

    def _limit(self, worker: Worker, held: int, gpu: GpuReading) -> float:
        most = MOST_FRAC * gpu.memory_total_bytes if gpu.memory_total_bytes else math.inf
        if held <= most:
            self._first_bytes.setdefault(worker, held)
        return min(most, self._first_bytes.get(worker, 0) + ROOM_BYTES)

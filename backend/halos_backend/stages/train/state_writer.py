"""Writes mid-round states on a thread of its own, from copies, while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import psutil
import torch
from torch import Tensor

from halos_backend.stages.train.partial_state import PartialHeader, write_partial_state
from halos_backend.store.run_dir import AttemptDir
from halos_backend.telemetry.cgroup import MemoryCgroup

ROOM_PER_BYTE = 2
"""Free bytes for each byte copied: the steps meanwhile need theirs."""


class StateWriter:
    """One write at a time. What it raises is raised where training comes by next.

    As a context manager it ends with no write under way.
    """

    def __init__(self, directory: AttemptDir) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="partial-state")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises OSError for the last write, unless training has failed by itself."""
        self._pool.shutdown()
        if error is None:
            self._wait()

    def check(self) -> None:
        """Raises OSError if the write has failed; does not wait for it."""
        if self._writing is not None and self._writing.done():
            self._wait()

    def write(self, header: PartialHeader, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replace the attempt's state by this one, once the write before has ended.

        It returns when the tensors are copied and may change; where the host has no room for
        copies, when they are written. Raises OSError, for the write before too.
        """
        self._wait()
        if not has_room(tensors):
            write_partial_state(self._directory, header, tensors)
            return
        then = PartialHeader(header.step, header.digest, list(header.history))
        copies = {name: _copied(held) for name, held in tensors.items()}
        self._writing = self._pool.submit(write_partial_state, self._directory, then, copies)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def has_room(tensors: Mapping[str, Mapping[str, Tensor]]) -> bool:
    """Whether copies of all tensors fit into the memory that host and cgroup have left."""
    num_bytes = sum(tensor.nbytes for held in tensors.values() for tensor in held.values())
    available = psutil.virtual_memory().available
    use = MemoryCgroup().use()
    if use is not None:
        available = min(available, use.limit - use.used)
    return ROOM_PER_BYTE * num_bytes <= available


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In host memory, wherever they are; the values are those of now."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }

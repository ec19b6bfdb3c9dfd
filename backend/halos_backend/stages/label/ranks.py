"""Owns how label's processes share work: who one is, how many there are, and gathering in order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from halos_backend.errors import StageError

if TYPE_CHECKING:
    import torch

    from halos_backend.config.schema import LaunchSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Is this process among its peers."""

    rank: int
    count: int
    device: torch.device

    def gather(self, values: list[T]) -> list[T]:
        """Gathers all ranks' values, rank by rank; every rank must call it. Lists may differ in
        length.
        """
        if self.count == 1:
            return values
        from accelerate.utils import gather_object

        return gather_object(values)


def check_world_size(num_processes: int) -> None:
    """Raises StageError when the launcher started another number of processes than the job says."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != num_processes:
        raise _wrong_count(started, num_processes)


def join_ranks(num_processes: int, launch: LaunchSettings) -> Ranks:
    """Meets the other processes of the stage. Raises StageError for another number of them."""
    from halos_backend.stages.models import pick_device

    check_world_size(num_processes)
    if num_processes == 1:
        return Ranks(0, 1, pick_device(launch))
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=launch.device == "cpu")
    if accelerator.num_processes != num_processes:
        raise _wrong_count(accelerator.num_processes, num_processes)
    return Ranks(accelerator.process_index, accelerator.num_processes, accelerator.device)


def _wrong_count(started: int, wanted: int) -> StageError:
    return StageError(
        f"label was to run as {wanted} processes (launch.num_processes) and runs as {started}:"
        f" start it with torchrun --nproc_per_node {wanted}, on CPUs with ACCELERATE_USE_CPU=true"
    )

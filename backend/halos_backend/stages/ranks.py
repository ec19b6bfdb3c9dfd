"""Owns how a stage's processes share work: who one is, how many there are, gathering and sums.

accelerate and torch.distributed are imported only where there are several.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from halos_backend.errors import StageError
from halos_backend.events import Stage

if TYPE_CHECKING:
    import torch

    from halos_backend.config.schema import LaunchSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Is this process among its peers. What they do together every rank must call."""

    rank: int
    count: int
    device: torch.device

    def gather(self, values: list[T]) -> list[T]:
        """Gathers all ranks' values, rank by rank. Lists may differ in length."""
        if self.count == 1:
            return values
        from accelerate.utils import gather_object

        return gather_object(values)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sums the tensor over all ranks, in place."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def max(self, value: float) -> float:
        """Returns the largest rank's value."""
        return max(self.gather([value]))

    def wait(self) -> None:
        """Waits until all ranks are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def check_world_size(stage: Stage, num_processes: int) -> None:
    """Raises StageError when the launcher started another number of processes than the job says."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != num_processes:
        raise _do_not_fit(stage, num_processes, str(started))


def join_ranks(stage: Stage, num_processes: int, launch: LaunchSettings) -> Ranks:
    """Meets the other processes of the stage. Raises StageError when they do not fit."""
    import torch

    from halos_backend.stages.models import pick_device

    check_world_size(stage, num_processes)
    if num_processes == 1:
        return Ranks(0, 1, pick_device(launch))
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    on_cpu = launch.device == "cpu" or not torch.cuda.is_available()
    met = Accelerator(cpu=on_cpu, mixed_precision="no")
    expected = DistributedType.MULTI_CPU if on_cpu else DistributedType.MULTI_GPU
    if met.num_processes != num_processes or met.distributed_type != expected:
        found = f"{met.num_processes} ({met.distributed_type.value})"
        raise _do_not_fit(stage, num_processes, found)
    return Ranks(met.process_index, met.num_processes, met.device)


def _do_not_fit(stage: Stage, wanted: int, found: str) -> StageError:
    return StageError(
        f"{stage} was to run as {wanted} processes (launch.num_processes) and runs as {found}:"
        f" start it with torchrun --nproc_per_node {wanted}, on CPUs with ACCELERATE_USE_CPU=true"
    )

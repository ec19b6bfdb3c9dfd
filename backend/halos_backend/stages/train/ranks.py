"""Owns how train's processes share a step: who one is, sums over all, autocast, the same seed.

Nothing is wrapped in DistributedDataParallel: it averages over ranks and microbatches, while every
denominator here is the optimizer step's. Each rank adds up the gradients of its microbatches, and
`sum_gradients` adds up the ranks'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from halos_backend.config.schema import LaunchSettings
from halos_backend.errors import StageError

BUCKET_ELEMENTS = 1 << 24
"""Is how many gradients are summed in one collective: 64 MiB of fp32."""

LOW_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Ranks:
    """Is this process among its peers. `is_low` says that the policy's dtype is one of
    LOW_DTYPES.
    """

    accelerator: Accelerator
    is_low: bool

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def count(self) -> int:
        return self.accelerator.num_processes

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def autocast(self) -> AbstractContextManager[None]:
        """Computes bf16 matrix products on a GPU where the policy's dtype is low; fp32 otherwise.

        Accelerate's own autocast is of one precision for the life of a process.
        """
        if self.is_low and self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sums the tensor over all ranks, in place; every rank must call it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, value: float) -> float:
        """Returns the largest rank's value."""
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        if self.count > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor.item()

    def wait(self) -> None:
        """Waits until all ranks are here."""
        self.accelerator.wait_for_everyone()

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Adds up the ranks' gradients; a rank without examples brings zeros."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.count == 1:
            return
        for bucket in _buckets(p.grad for p in parameters if p.grad is not None):
            flat = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            sizes = [gradient.numel() for gradient in bucket]
            for gradient, part in zip(bucket, flat.split(sizes), strict=True):
                gradient.copy_(part.view_as(gradient))


def join_ranks(num_processes: int, launch: LaunchSettings, dtype: torch.dtype) -> Ranks:
    """Meets the other processes. `dtype` is the policy's. Raises StageError when they do
    not fit.
    """
    on_cpu = launch.device == "cpu" or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
    expected = {DistributedType.NO}
    if num_processes > 1:
        expected = {DistributedType.MULTI_CPU if on_cpu else DistributedType.MULTI_GPU}
    found = accelerator.distributed_type
    if accelerator.num_processes != num_processes or found not in expected:
        raise StageError(
            f"train was to run as {num_processes} processes (launch.num_processes) and runs as"
            f" {accelerator.num_processes} ({found.value}): start it with torchrun"
            f" --nproc_per_node {num_processes}, on CPUs with ACCELERATE_USE_CPU=true"
        )
    return Ranks(accelerator, is_low=dtype in LOW_DTYPES)


def make_deterministic(device: torch.device) -> None:
    """Makes torch deterministic where that is free: on the CPU. CUDA's kernels for it are slower
    and not complete.
    """
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # the debugging aid that fills every torch.empty costs time and changes no result
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and sum(map(torch.numel, bucket)) + gradient.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket

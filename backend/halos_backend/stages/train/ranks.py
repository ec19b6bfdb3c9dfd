"""Owns how train's processes share a step: sums of gradients, autocast, determinism.

Nothing is wrapped in DistributedDataParallel: it averages over ranks and microbatches, while every
denominator here is the optimizer step's. Each rank adds up the gradients of its microbatches, and
`sum_gradients` adds up the ranks'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from halos_backend.config.schema import LaunchSettings
from halos_backend.stages.ranks import Ranks, join_ranks

BUCKET_ELEMENTS = 1 << 24
"""Is how many gradients are summed in one collective: 64 MiB of fp32."""

LOW_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class TrainRanks(Ranks):
    """Is this process among its peers. `is_low` says that the policy's dtype is one of
    LOW_DTYPES.
    """

    is_low: bool

    def autocast(self) -> AbstractContextManager[None]:
        """Computes bf16 matrix products on a GPU where the policy's dtype is low; fp32 otherwise.

        Accelerate's own autocast is of one precision for the life of a process.
        """
        if self.is_low and self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

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


def join_train_ranks(num_processes: int, launch: LaunchSettings, dtype: torch.dtype) -> TrainRanks:
    """Meets the other processes. `dtype` is the policy's. Raises StageError when they do
    not fit.
    """
    met = join_ranks("train", num_processes, launch)
    return TrainRanks(met.rank, met.count, met.device, is_low=dtype in LOW_DTYPES)


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

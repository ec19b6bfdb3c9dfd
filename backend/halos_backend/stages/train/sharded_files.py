"""Weights and moments that the ranks hold parts of, by torch's distributed checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from halos_backend.errors import StageError
from halos_backend.stages.train.optimizer import MOMENTS, Moments


def write_parts(directory: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write each rank's part of the tensors; every rank must call it, and it returns together."""
    state = {name: {k: t.detach() for k, t in held.items()} for name, held in tensors.items()}
    save(state, checkpoint_id=directory)


def read_parts(directory: Path, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Moments]:
    """This rank's part of the weights and their moments; every rank must call it.

    `weights` give names, shapes and parts. Raises StageError on all ranks when a part is unreadable
    on one.
    """
    read = {name: torch.empty_like(weight.detach()) for name, weight in weights.items()}
    moments = {
        f"{moment}.{name}": torch.zeros(())
        if moment == "step"
        else torch.empty_like(weight.detach())
        for name, weight in weights.items()
        for moment in MOMENTS
    }
    try:
        load({"weights": read, "optimizer": moments}, checkpoint_id=directory)
    except (CheckpointException, OSError) as error:
        raise StageError(f"{directory}: {str(error).splitlines()[0]}") from error
    return read, moments

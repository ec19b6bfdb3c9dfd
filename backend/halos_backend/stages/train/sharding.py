"""Divides a model over the ranks by torch's `fully_shard` (FSDP2), and gathers it again.

Every rank holds a part of each weight, its gradient and its moments; a layer's weights are whole
only while it computes. Gradients are added up over the ranks, not averaged: all denominators are
the optimizer step's. Whoever runs a sharded model must run it equally often on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from halos_backend.stages.train.ranks import TrainRanks

METHOD = "halos_forward"
"""Is the method that calls another function with the model, its outermost weights made whole."""


def shard(model: PreTrainedModel, ranks: TrainRanks) -> None:
    """Keeps this rank's part of each weight, on the rank's device. All ranks have the
    same model.
    """
    mesh = init_device_mesh(ranks.device.type, (ranks.count,))
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    for module in (*layers, model):
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    setattr(model, METHOD, MethodType(_call_with, model))
    register_fsdp_forward_method(model, METHOD)


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def run_whole(model: PreTrainedModel, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Runs `function(model, *arguments)`, with the weights outside the layers whole meanwhile."""
    if not is_sharded(model):
        return function(model, *arguments)
    result: Tensor = getattr(model, METHOD)(function, *arguments)
    return result


def whole(tensor: Tensor) -> Tensor:
    """Returns the tensor that the ranks hold parts of; every rank must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """Returns this rank's part of `value`, which every rank has whole, divided as `like` is."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.dim() == 0:
        return value.to(like.device)
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def gather(tensors: Mapping[str, Tensor], ranks: TrainRanks) -> dict[str, Tensor]:
    """Returns whole tensors on rank 0's CPU, empty on the other ranks; every rank must call it."""
    gathered = {}
    for name, tensor in tensors.items():
        value = whole(tensor.detach())
        if ranks.rank == 0:
            gathered[name] = value.cpu()
    return gathered


def _call_with(model: PreTrainedModel, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return function(model, *arguments)

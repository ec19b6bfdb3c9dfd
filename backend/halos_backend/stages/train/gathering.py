"""Makes of a sharded trainee and its moments the plain ones that rank 0 writes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from halos_backend.stages.packing import is_packed
from halos_backend.stages.train.optimizer import Moments, read_moments
from halos_backend.stages.train.ranks import Ranks
from halos_backend.stages.train.sharding import gather, is_sharded
from halos_backend.stages.train.trainee import Trainee


def gathered(
    trainee: Trainee, optimizer: torch.optim.AdamW, ranks: Ranks
) -> tuple[Trainee, Moments]:
    """The trainee and its moments, those of a sharded one on rank 0's CPU; every rank must call it.

    On the other ranks a sharded one has no weights then.
    """
    moments = read_moments(optimizer, trainee.weights)
    if not is_sharded(trainee.model):
        return trainee, moments
    return _plain(trainee, ranks), gather(moments, ranks)


def _plain(trainee: Trainee, ranks: Ranks) -> Trainee:
    model: Any = trainee.model
    weights = gather(dict(model.named_parameters()), ranks)
    buffers = {name: value.cpu() for name, value in model.named_buffers()}
    config = copy.deepcopy(model.config)
    if is_packed(model):
        config._attn_implementation = "sdpa"  # what is packed had that
    with torch.device("meta"):
        plain: PreTrainedModel = type(model).__mro__[model._orig_cls_mro_index](config)
    plain.generation_config = model.generation_config
    plain.load_state_dict({**weights, **buffers}, strict=False, assign=True)
    plain.tie_weights()
    return replace(trainee, model=plain.eval().requires_grad_(True))

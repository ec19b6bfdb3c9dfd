"""Gradient checkpointing of a model's layers, whose own dropout it leaves off.

A layer of transformers asks `training` both whether to be checkpointed and whether to drop: some
call `F.dropout` themselves, with probabilities from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from halos_backend.errors import StageError


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Let the layers be checkpointed while their `training` is on. Raises StageError."""
    # the older of its two names warns where there is the newer one
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    except ValueError as error:
        raise StageError(f"train.gradient_checkpointing: {error}; set it to false") from error
    layers: list[Any] = [module for module in model.modules() if is_checkpointed(module)]
    for layer in layers:
        checkpoint = layer._gradient_checkpointing_func
        layer._gradient_checkpointing_func = partial(_run, layer, checkpoint)


def is_checkpointed(module: nn.Module) -> bool:
    return isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing


def _run(layer: nn.Module, checkpoint: Any, function: Callable[..., Any], *inputs: Any) -> Any:
    """Checkpoint the layer's `function`, which runs again in the backward pass."""

    def evaluating(*inputs: Any) -> Any:
        layer.training = False
        try:
            return function(*inputs)
        finally:
            layer.training = True

    return checkpoint(evaluating, *inputs)

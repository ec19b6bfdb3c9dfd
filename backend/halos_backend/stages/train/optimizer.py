"""Owns AdamW over fp32 weights: moments by parameter name, clipping by the global norm, the
schedule.

The learning rate's factor is a pure function of how far the run or the round is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from halos_backend.config.schema import TrainSettings
from halos_backend.errors import StageError
from halos_backend.stages.train.sharding import part_of, whole

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
Moments = dict[str, Tensor]
"""Is AdamW's state, flat: `exp_avg.NAME` and so on for each parameter's name."""

Schedule = Literal["constant", "linear", "cosine"]


def make_optimizer(
    weights: Mapping[str, nn.Parameter], settings: TrainSettings
) -> torch.optim.AdamW:
    """Makes AdamW; weight decay spares norms, biases and everything else of fewer than two
    dimensions.
    """
    decayed = [weight for weight in weights.values() if weight.dim() >= 2]
    spared = [weight for weight in weights.values() if weight.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,  # a third of foreach's time on one thread
    )


def read_moments(optimizer: torch.optim.AdamW, weights: Mapping[str, nn.Parameter]) -> Moments:
    """Returns the optimizer's own tensors, not copies; none before the first step."""
    return {
        f"{moment}.{name}": optimizer.state[weight][moment]
        for name, weight in weights.items()
        for moment in MOMENTS
        if optimizer.state[weight]
    }


def restore_moments(
    optimizer: torch.optim.AdamW,
    weights: Mapping[str, nn.Parameter],
    moments: Moments,
    *,
    copies: bool = True,
) -> None:
    """Puts moments back by value, or, without `copies`, the very tensors.

    Raises StageError when they are not those of `weights`.
    """
    expected = {f"{moment}.{name}" for name in weights for moment in MOMENTS}
    if expected != moments.keys():
        differing = sorted(expected ^ moments.keys())
        raise StageError(f"the optimizer's state is of another model: {differing[0]} and others")
    for name, weight in weights.items():
        state = {moment: moments[f"{moment}.{name}"] for moment in MOMENTS}
        if state["exp_avg"].shape != weight.shape:
            raise StageError(f"the optimizer's state has another shape than {name}")
        optimizer.state[weight] = {
            moment: part_of(value.to(dtype=torch.float32, copy=copies), weight)
            for moment, value in state.items()
        }


def set_lr(optimizer: torch.optim.AdamW, lr: float) -> None:
    """Sets the learning rate of the next step, whatever was restored."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def gradient_norm(weights: Mapping[str, nn.Parameter]) -> Tensor:
    """Returns the 2-norm of all gradients together, a scalar."""
    norm = nn.utils.get_total_norm(
        [weight.grad for weight in weights.values() if weight.grad is not None]
    )
    return whole(norm)


def clip_gradients(weights: Mapping[str, nn.Parameter], *, max_norm: float, norm: float) -> None:
    """Scales the gradients down to `max_norm` where their norm is larger."""
    if norm > max_norm:
        gradients = [weight.grad for weight in weights.values() if weight.grad is not None]
        torch._foreach_mul_(gradients, max_norm / norm)


def schedule_factor(*, schedule: Schedule, progress: float, warmup_frac: float) -> float:
    """Returns what the peak learning rate is multiplied by at `progress` (0..1) of the schedule's
    scope.

    It rises linearly over the first `warmup_frac`, then stays, or falls to 0 as a line or a half
    cosine.
    """
    if progress < warmup_frac:
        return progress / warmup_frac
    decayed = min(1.0, (progress - warmup_frac) / (1 - warmup_frac))
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - decayed
        case "cosine":
            return (1 + math.cos(math.pi * decayed)) / 2
        case _:
            assert_never(schedule)


def step_progress(
    *, step: int, num_steps: int, scope: Literal["run", "round"], start: float, end: float
) -> float:
    """Returns progress at the middle of step `step` (from 1) of a round that covers `start`..`end`.

    It is the middle, because at a step's beginning or end one step of a run would have a factor of
    0 and be wasted: the first of the warm-up, or the last of the decay.
    """
    in_round = (step - 0.5) / num_steps
    return start + (end - start) * in_round if scope == "run" else in_round

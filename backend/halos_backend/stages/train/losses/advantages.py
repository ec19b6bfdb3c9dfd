"""Advantages of completions over their group: a baseline of the group's rewards, and a scale.

GRPO's are Shao et al. 2024, arXiv 2402.03300, section 4.1.2; what else there is has its paper at
each function.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

STD_EPSILON = 1e-4
"""Is added to a standard deviation, as TRL does (HALOs adds 1e-2): with less, rewards that differ
by a judge's rounding get advantages like those that differ by something."""

Baseline = Literal["group_mean", "leave_one_out"]


def group_advantages(
    *,
    rewards: Tensor,
    group_index: Tensor,
    scale: bool,
    baseline: Baseline = "group_mean",
    round_std: float | None = None,
) -> Tensor:
    """Reward minus its group's baseline; `scale` divides by the group's standard deviation + 1e-4.

    `rewards` (n,) is float, `group_index` (n,) is long, any ids in any order; the result is (n,).
    The deviation is that of the population (divided by the group's size), as HALOs' `numpy.std`;
    Shao et al. 2024, section 4.1.2, leaves it open. Unscaled is Dr. GRPO (Liu et al. 2025, arXiv
    2503.20783). A group of one, or of equal rewards, gives exactly 0.

    `leave_one_out` is the mean of the others' rewards (RLOO: Kool et al. 2019; Ahmadian et al.
    2024, arXiv 2402.14740): G / (G - 1) times what the group's mean gives. `round_std` takes the
    place of the group's deviation, see `reward_std`.
    """
    if rewards.numel() == 0:
        return torch.zeros_like(rewards)
    ids, inverse = torch.unique(group_index, return_inverse=True)
    # Membership rather than scatter: float atomics on CUDA sum in no fixed order.
    is_member = inverse == torch.arange(len(ids), device=rewards.device).unsqueeze(-1)
    # Measured from the group's first reward, equal rewards are exactly 0 whatever rounding does.
    first = is_member.to(torch.uint8).argmax(-1)
    shifted = rewards - rewards[first][inverse]
    advantages = shifted - _group_means(shifted, is_member)[inverse]
    std = _group_means(advantages.square(), is_member).sqrt()[inverse]
    if baseline == "leave_one_out":
        size = is_member.sum(-1)[inverse]
        advantages = advantages * size / (size - 1).clamp(min=1)
    if not scale:
        return advantages
    return advantages / ((std if round_std is None else round_std) + STD_EPSILON)


def reward_std(rewards: Tensor) -> float:
    """Standard deviation of all rewards of a round, (n,), of the population.

    Divided by it, rewards keep their differences between groups (Lite PPO: Liu et al. 2025, arXiv
    2508.08221; `scale_rewards = "batch"` of TRL).
    """
    return float(rewards.std(correction=0)) if rewards.numel() else 0.0


def _group_means(values: Tensor, is_member: Tensor) -> Tensor:
    """Means of (n,) values over each row of (groups, n) membership, (groups,)."""
    return torch.where(is_member, values, 0.0).sum(-1) / is_member.sum(-1)

"""Group Relative Policy Optimization: Shao et al. 2024, DeepSeekMath, arXiv 2402.03300."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_LOG = 20.0
"""Exponents stop here (e^20 is 5e8): past it float32 overflows soon, and 0 * inf is NaN."""

STD_EPSILON = 1e-4
"""Added to a group's standard deviation, as TRL does (HALOs adds 1e-2): with less, rewards that
differ by a judge's rounding get advantages like those that differ by something."""


def grpo_token_loss(
    *,
    token_logps: Tensor,
    old_token_logps: Tensor,
    reference_token_logps: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    beta: float,
    clip_low: float,
    clip_high: float,
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """Per-token GRPO loss (Shao et al. 2024, eq. 3 and 4), 0 outside the mask.

    `advantages` is (batch,), all else (batch, tokens). `old_token_logps` are those of the policy
    that sampled, `reference_token_logps` those of the KL reference; both without gradient.
    `clamp` is humanline's (log_epsilon_p, log_epsilon_r), put on the log-ratio to the old policy
    before it is exponentiated; the KL term is never clamped by it. Deviates from HALOs, whose ratio
    is to the reference itself (pass it as `old_token_logps` for that), from its single clip range,
    and from its mean over the microbatch. Exponents end at MAX_LOG, without gradient beyond.
    """
    is_outside = ~completion_mask.bool()
    # Masked before exp: a huge value outside would make inf, whose gradient is NaN even times 0.
    logratios = (token_logps - old_token_logps).masked_fill(is_outside, 0.0)
    if clamp is not None:
        logratios = logratios.clamp(min=clamp[0], max=clamp[1])
    ratios = logratios.clamp(max=MAX_LOG).exp()
    gains = advantages.unsqueeze(-1) * ratios
    clipped_gains = advantages.unsqueeze(-1) * ratios.clamp(min=1 - clip_low, max=1 + clip_high)

    kl_logratios = (token_logps - reference_token_logps).masked_fill(is_outside, 0.0)
    kl_logratios = kl_logratios.clamp(min=-MAX_LOG)
    kl_k3 = torch.expm1(-kl_logratios) + kl_logratios
    loss = beta * kl_k3 - torch.minimum(gains, clipped_gains)
    return loss.masked_fill(is_outside, 0.0)


def group_advantages(*, rewards: Tensor, group_index: Tensor, scale: bool) -> Tensor:
    """Reward minus its group's mean; `scale` divides by the group's standard deviation plus 1e-4.

    `rewards` (n,) is float, `group_index` (n,) is long, any ids in any order; the result is (n,).
    The deviation is that of the population (divided by the group's size), as HALOs' `numpy.std`;
    Shao et al. 2024, section 4.1.2, leaves it open. Unscaled is Dr. GRPO (Liu et al. 2025, arXiv
    2503.20783). A group of one, or of equal rewards, gives exactly 0.
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
    if not scale:
        return advantages
    std = _group_means(advantages.square(), is_member).sqrt()
    return advantages / (std[inverse] + STD_EPSILON)


def _group_means(values: Tensor, is_member: Tensor) -> Tensor:
    """Means of (n,) values over each row of (groups, n) membership, (groups,)."""
    return torch.where(is_member, values, 0.0).sum(-1) / is_member.sum(-1)

"""Kahneman-Tversky Optimization: Ethayarajh et al. 2024, arXiv 2402.01306."""

from __future__ import annotations

import torch
from torch import Tensor


def kto_loss(
    *,
    logratios: Tensor,
    is_desirable: Tensor,
    kl: Tensor,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Per-completion KTO loss, weight minus value (Ethayarajh et al. 2024, eq. 8).

    `logratios` (batch,) are sums over the completion, `is_desirable` is bool (batch,), `kl` is the
    scalar of `kto_kl` over the whole optimizer-step batch. 1 - sigmoid(x) is computed as
    sigmoid(-x), which keeps its digits for large x. As HALOs, but not averaged.
    """
    gain = beta * (logratios - kl)
    return torch.where(
        is_desirable,
        desirable_weight * torch.sigmoid(-gain),
        undesirable_weight * torch.sigmoid(gain),
    )


def kto_kl(*, mismatched_logratios_sum: Tensor, num_mismatched: Tensor | int) -> Tensor:
    """KTO's reference point: mean log-ratio of mismatched completions, at least 0, no gradient.

    Each completion y' is scored after another example's prompt (Ethayarajh et al. 2024, section 4).
    Both arguments are scalars summed over microbatches and ranks of the optimizer step.
    Deviates from HALOs: that averages per microbatch and leaves out completions whose log-ratio
    happens to be 0; the caller here counts the completions that it scored.
    """
    count = torch.as_tensor(num_mismatched).to(mismatched_logratios_sum).clamp(min=1)
    return (mismatched_logratios_sum / count).clamp(min=0).detach()

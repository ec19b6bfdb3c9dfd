"""Self-Play Preference Optimization: Wu et al. 2024, arXiv 2405.00675."""

from __future__ import annotations

from torch import Tensor


def sppo_loss(*, chosen_logratios: Tensor, rejected_logratios: Tensor, beta: float) -> Tensor:
    """Per-pair squared distance of log-ratios from eta (P - 1/2), eta = 1 / beta (Wu et al. 2024,
    eq. 4.7), where the chosen completion wins with P = 1 and the rejected one with P = 0.

    All tensors are (pairs,); log-ratios are sums over the completion. As TRL's `sppo_hard`. The
    paper estimates P with a preference model, over five completions of a prompt.
    """
    target = 0.5 / beta
    return (chosen_logratios - target).square() + (rejected_logratios + target).square()

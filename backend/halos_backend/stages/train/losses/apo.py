"""Anchored Preference Optimization: D'Oosterlinck et al. 2024, arXiv 2408.06266.

Two losses of one paper, which say where both completions' probabilities go, not only their
difference.
"""

from __future__ import annotations

import torch
from torch import Tensor


def apo_zero_loss(*, chosen_logratios: Tensor, rejected_logratios: Tensor, beta: float) -> Tensor:
    """Per-pair loss that makes the chosen completion likelier and the rejected one less likely
    (D'Oosterlinck et al. 2024, eq. 7): for chosen ones that are better than the policy.

    All tensors are (pairs,); log-ratios are sums over the completion. As TRL's `apo_zero`.
    """
    return torch.sigmoid(-beta * chosen_logratios) + torch.sigmoid(beta * rejected_logratios)


def apo_down_loss(*, chosen_logratios: Tensor, rejected_logratios: Tensor, beta: float) -> Tensor:
    """Per-pair loss that makes both completions less likely, the rejected one more so: for chosen
    ones that are worse than the policy (eq. 8). As `apo_zero_loss`, and TRL's `apo_down`.
    """
    margin = beta * (chosen_logratios - rejected_logratios)
    return torch.sigmoid(beta * chosen_logratios) + torch.sigmoid(-margin)

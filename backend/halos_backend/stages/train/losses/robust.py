"""Provably Robust DPO: Chowdhury et al. 2024, arXiv 2403.00409."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def robust_loss(
    *,
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    beta: float,
    label_smoothing: float,
) -> Tensor:
    """Per-pair DPO loss whose mean is that of right labels, though labels are flipped with
    probability `label_smoothing` (Chowdhury et al. 2024).

    All tensors are (pairs,); log-ratios are sums over the completion. As TRL's `robust`. cDPO adds
    what is subtracted here, and divides by nothing, so that it is pulled to a margin.
    """
    margin = beta * (chosen_logratios - rejected_logratios)
    right, wrong = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)

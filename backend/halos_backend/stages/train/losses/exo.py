"""Efficient exact optimization: Ji et al. 2024, arXiv 2402.00856."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def exo_loss(
    *,
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    beta: float,
    label_smoothing: float,
) -> Tensor:
    """Per-pair reverse KL from the policy's preference to the label's (Ji et al. 2024, eq. 16).

    The policy prefers the chosen completion with probability s(beta (LR(c) - LR(r))), the label
    with 1 - `label_smoothing`, which is over 0. All tensors are (pairs,); log-ratios are sums over
    the completion. As TRL's `exo_pair`. cDPO's loss is the forward KL, but for a constant.
    """
    margin = beta * (chosen_logratios - rejected_logratios)
    chosen, rejected = F.logsigmoid(margin), F.logsigmoid(-margin)
    return chosen.exp() * (chosen - math.log1p(-label_smoothing)) + rejected.exp() * (
        rejected - math.log(label_smoothing)
    )

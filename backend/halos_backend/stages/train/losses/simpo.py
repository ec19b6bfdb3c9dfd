"""Simple Preference Optimization: Meng et al. 2024, arXiv 2405.14734. Needs no reference."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def simpo_loss(
    *,
    chosen_mean_logps: Tensor,
    rejected_mean_logps: Tensor,
    beta: float,
    gamma_beta_ratio: float,
) -> Tensor:
    """Per-pair SimPO loss (Meng et al. 2024, eq. 6). All tensors are (pairs,).

    Log-probabilities are means over completion tokens; the target margin gamma is
    `beta * gamma_beta_ratio`, as in HALOs. HALOs would also apply its humanline clamp to the bare
    log-probabilities; without a reference there is no log-ratio, so nothing is clamped here.
    """
    margin = chosen_mean_logps - rejected_mean_logps
    return -F.logsigmoid(beta * (margin - gamma_beta_ratio))

"""Direct Preference Optimization: Rafailov et al. 2023, arXiv 2305.18290."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def dpo_loss(*, chosen_logratios: Tensor, rejected_logratios: Tensor, beta: float) -> Tensor:
    """Per-pair DPO loss (Rafailov et al. 2023, eq. 7). All tensors are (pairs,).

    Log-ratios are sums over the completion. As HALOs and TRL (`sigmoid`), but not averaged.
    """
    return -F.logsigmoid(beta * (chosen_logratios - rejected_logratios))

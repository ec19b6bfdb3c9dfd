"""Conservative DPO: Mitchell 2023, "A note on DPO with noisy preferences & relationship to IPO"."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cdpo_loss(
    *,
    chosen_logratios: Tensor,
    rejected_logratios: Tensor,
    beta: float,
    label_smoothing: float,
) -> Tensor:
    """Per-pair cross-entropy when a label is wrong with probability `label_smoothing`.

    All tensors are (pairs,); log-ratios are sums over the completion. As HALOs' CDPO, which calls
    the probability epsilon; 0 gives DPO.
    """
    implicit_margin = beta * (chosen_logratios - rejected_logratios)
    right = -F.logsigmoid(implicit_margin)
    wrong = -F.logsigmoid(-implicit_margin)
    return (1 - label_smoothing) * right + label_smoothing * wrong

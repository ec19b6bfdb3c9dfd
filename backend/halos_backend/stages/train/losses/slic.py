"""Sequence Likelihood Calibration: Zhao et al. 2023, SLiC-HF, arXiv 2305.10425. No reference."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def slic_loss(
    *, chosen_logps: Tensor, rejected_logps: Tensor, delta: float, lambda_coef: float
) -> Tensor:
    """Per-pair hinge plus the chosen completion's NLL (Zhao et al. 2023, eq. 1).

    All tensors are (pairs,), sums over the completion. The regularization target is the chosen
    completion. Deviates from HALOs, which calls `delta` beta and adds the (pairs,) hinge to a
    (pairs, tokens) NLL: its shapes agree only by accident, and its mean over tokens, padding
    included, would make lambda depend on padding. Here the NLL is summed over the sequence, as in
    the paper, so equal `lambda_coef` regularizes more strongly than in HALOs.
    """
    calibration = F.relu(delta - chosen_logps + rejected_logps)
    return calibration - lambda_coef * chosen_logps

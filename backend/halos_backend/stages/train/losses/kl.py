"""Monte Carlo estimates of KL(policy || reference) on sampled completions.

Schulman 2020, "Approximating KL Divergence" (joschu.net/blog/kl-approx.html). Unbiased only for
completions that the policy itself sampled.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_LOG = 20.0
"""k3's exponent stops here (e^20 is 5e8), so that one lost token gives no infinity."""


def kl_k1(
    *, policy_token_logps: Tensor, reference_token_logps: Tensor, completion_mask: Tensor
) -> Tensor:
    """Sum of log-ratios over each completion, (batch,): unbiased, high variance, may be negative.

    Inputs are (batch, tokens). Not divided by length, unlike the token means of HALOs and TRL.
    """
    logratios = policy_token_logps - reference_token_logps
    return logratios.masked_fill(~completion_mask.bool(), 0.0).sum(-1)


def kl_k3(
    *, policy_token_logps: Tensor, reference_token_logps: Tensor, completion_mask: Tensor
) -> Tensor:
    """Sum of exp(-r) + r - 1 over each completion, r = policy - reference, (batch,).

    Inputs are (batch, tokens). Never negative. Each token's term is unbiased for the KL of its
    next-token distributions. r is bounded below by -MAX_LOG, which HALOs does not do.
    """
    logratios = policy_token_logps - reference_token_logps
    logratios = logratios.masked_fill(~completion_mask.bool(), 0.0).clamp(min=-MAX_LOG)
    return (torch.expm1(-logratios) + logratios).sum(-1)

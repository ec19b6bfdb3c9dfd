"""KL divergence of next-token distributions, over the whole vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor


def categorical_kl(policy_logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL(policy || other) of each row, (rows,), for logits (rows, vocabulary).

    The sum of p r, r = log p - log q, to which q - p is added, which sums to 0: so each term is at
    least 0, nothing cancels, and nearly equal distributions keep their digits. Where p and q are
    close the term is p (exp(-r) - 1 + r).
    """
    ours, theirs = policy_logits.log_softmax(-1), other_logits.log_softmax(-1)
    logratios = ours - theirs
    p, q = ours.exp_(), theirs.exp_()
    near = p * (torch.expm1(-logratios.clamp(-1, 1)) + logratios)
    return torch.where(logratios.abs() < 1, near, q - p + p * logratios).sum(-1)

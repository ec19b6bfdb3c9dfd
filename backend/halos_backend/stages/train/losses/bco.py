"""Binary Classifier Optimization: Jung et al. 2024, arXiv 2404.04656."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bco_loss(
    *, chosen_logratios: Tensor, rejected_logratios: Tensor, shift: Tensor, beta: float
) -> Tensor:
    """Per-pair loss of a classifier whose logit is the implicit reward less `shift`, a scalar
    without gradient (Jung et al. 2024).

    All other tensors are (pairs,); log-ratios are sums over the completion. The shift is the mean
    of implicit rewards; here over the whole optimizer step, in TRL's `bco_pair` a running mean over
    all batches so far (its newest versions have none). The paper's weight for prompts that only bad
    completions have is left out, since a pair has both.
    """
    chosen, rejected = beta * chosen_logratios - shift, beta * rejected_logratios - shift
    return -F.logsigmoid(chosen) - F.logsigmoid(-rejected)

"""Bradley-Terry reward modelling: Bradley and Terry 1952; Ouyang et al. 2022, arXiv 2203.02155."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(*, chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    """Per-pair -log P(chosen preferred) (Ouyang et al. 2022, eq. 1). All tensors are (pairs,).

    Equal to HALOs' cross-entropy on the difference, but not averaged, and of one scalar reward
    where HALOs reads the second of two logits.
    """
    return -F.logsigmoid(chosen_rewards - rejected_rewards)

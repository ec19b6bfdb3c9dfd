"""Supervised fine-tuning: next-token cross-entropy on completion tokens."""

from __future__ import annotations

from torch import Tensor


def sft_token_loss(*, token_logps: Tensor, completion_mask: Tensor) -> Tensor:
    """Negative log-likelihood per token, 0 outside the mask. All tensors are (batch, tokens).

    HALOs divides by the microbatch's tokens, so short microbatches weigh more; here the trainer
    divides by the tokens of the optimizer step.
    """
    return (-token_logps).masked_fill(~completion_mask.bool(), 0.0)

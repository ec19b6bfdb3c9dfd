"""Token log-ratios of policy over reference, and their sums and means over completions.

Leaves reduction over examples to the trainer. A mask is bool or float; nonzero means "inside".
Deviates from HALOs, which takes "the value is not zero" for the mask: there IPO divides 0 by 0 when
policy equals reference, and the clamped share leaves out tokens on which the two agree.
"""

from __future__ import annotations

from torch import Tensor


def token_logratios(
    *,
    policy_token_logps: Tensor,
    reference_token_logps: Tensor,
    completion_mask: Tensor,
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """Policy minus reference per token, 0 outside the mask. All tensors are (batch, tokens).

    `clamp` is (log_epsilon_p, log_epsilon_r) of humanline (Ethayarajh et al. 2025, arXiv
    2509.24207): each token is clamped before any sum, and gives no gradient beyond the bounds.
    """
    logratios = policy_token_logps - reference_token_logps
    if clamp is not None:
        logratios = logratios.clamp(min=clamp[0], max=clamp[1])
    return logratios.masked_fill(~completion_mask.bool(), 0.0)


def sum_over_completion(values: Tensor, completion_mask: Tensor) -> Tensor:
    """Sum of (batch, tokens) values inside the mask, (batch,); 0 for an empty completion."""
    return values.masked_fill(~completion_mask.bool(), 0.0).sum(-1)


def mean_over_completion(values: Tensor, completion_mask: Tensor) -> Tensor:
    """Mean of (batch, tokens) values inside the mask, (batch,); 0 for an empty completion."""
    num_tokens = completion_mask.bool().sum(-1).clamp(min=1)
    return sum_over_completion(values, completion_mask) / num_tokens


def unclamped_frac(
    *,
    policy_token_logps: Tensor,
    reference_token_logps: Tensor,
    completion_mask: Tensor,
    clamp: tuple[float, float],
) -> Tensor:
    """Share of completion tokens strictly inside the clamp: a scalar without gradient.

    Inputs are (batch, tokens). 0 when the mask is empty. HALOs counts only tokens whose log-ratio
    is not 0, so it reads lower just after a re-sync of the reference; here all tokens count.
    """
    logratios = (policy_token_logps - reference_token_logps).detach()
    mask = completion_mask.bool()
    is_inside = (clamp[0] < logratios) & (logratios < clamp[1]) & mask
    return is_inside.sum().to(logratios.dtype) / mask.sum().clamp(min=1)

"""Group Relative Policy Optimization: Shao et al. 2024, DeepSeekMath, arXiv 2402.03300.

Its relatives differ from it in a few parts, each a function here with the paper that has it: what a
ratio is of, what becomes of the ratio, which estimate of the KL is taken. Everything is per token;
what the mean is over is the trainer's matter, and advantages are `advantages`'.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor

from halos_backend.stages.train.losses.logratios import mean_over_completion, sum_over_completion

MAX_LOG = 20.0
"""Exponents stop here (e^20 is 5e8): past it float32 overflows soon, and 0 * inf is NaN."""

RatioOf = Literal["token", "sequence", "product"]
Estimate = Literal["k3", "k2"]


def grpo_token_loss(
    *,
    token_logps: Tensor,
    old_token_logps: Tensor,
    reference_token_logps: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    beta: float,
    clip_low: float,
    clip_high: float,
    clamp: tuple[float, float] | None = None,
    ratio: RatioOf = "token",
    dual_clip: float | None = None,
    cispo_cap: float | None = None,
    kl_estimate: Estimate = "k3",
    weights: Tensor | None = None,
) -> Tensor:
    """Per-token GRPO loss (Shao et al. 2024, eq. 3 and 4), 0 outside the mask.

    `advantages` is (batch,), all else (batch, tokens). `old_token_logps` are those of the policy
    that sampled, `reference_token_logps` those of the KL reference; both without gradient.
    `clamp` is humanline's (log_epsilon_p, log_epsilon_r), put on the log-ratio to the old policy
    before it is exponentiated; the KL term is never clamped by it. Deviates from HALOs, whose ratio
    is to the reference itself (pass it as `old_token_logps` for that), from its single clip range,
    and from its mean over the microbatch. Exponents end at MAX_LOG, without gradient beyond.

    `ratio` see `ratio_logs`, `dual_clip` see `clipped_losses`. With `cispo_cap` the surrogate is
    CISPO's and the clips have no part in it. `weights`, see `sampler_weights`, multiply the
    surrogate and not the KL term, as in TRL.
    """
    is_outside = ~completion_mask.bool()
    # Masked before exp: a huge value outside would make inf, whose gradient is NaN even times 0.
    logratios = (token_logps - old_token_logps).masked_fill(is_outside, 0.0)
    if clamp is not None:
        logratios = logratios.clamp(min=clamp[0], max=clamp[1])
    ratios = ratio_logs(logratios, completion_mask, ratio).clamp(max=MAX_LOG).exp()
    gains = advantages.unsqueeze(-1)
    if cispo_cap is None:
        surrogate = clipped_losses(
            ratios, gains, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
        )
    else:
        logps = token_logps.masked_fill(is_outside, 0.0)
        surrogate = cispo_losses(ratios, gains, logps, cap=cispo_cap)
    if weights is not None:
        surrogate = weights.masked_fill(is_outside, 0.0) * surrogate
    kl_logratios = (token_logps - reference_token_logps).masked_fill(is_outside, 0.0)
    loss = beta * kl_of(kl_logratios, kl_estimate) + surrogate
    return loss.masked_fill(is_outside, 0.0)


def ratio_logs(logratios: Tensor, completion_mask: Tensor, ratio: RatioOf) -> Tensor:
    """Returns the logarithm of each token's importance ratio, from log-ratios that are 0 outside
    the mask; all are (batch, tokens), or (batch, 1) where a completion has one ratio.

    `token` is the token's own. `sequence` is that of the whole completion to the power of 1 over
    its length (GSPO: Zheng et al. 2025, arXiv 2507.18071), `product` that of the whole
    completion (RLOO: Ahmadian et al. 2024, arXiv 2402.14740).
    """
    match ratio:
        case "token":
            return logratios
        case "sequence":
            return mean_over_completion(logratios, completion_mask).unsqueeze(-1)
        case "product":
            return sum_over_completion(logratios, completion_mask).unsqueeze(-1)
        case _:
            assert_never(ratio)


def clipped_losses(
    ratios: Tensor,
    gains: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """PPO's clipped surrogate, negated; `gains` are the advantages, (batch, 1).

    `clip_high` over `clip_low` is DAPO's clip-higher (Yu et al. 2025, arXiv 2503.14476).
    Where the advantage is negative the loss ends at `dual_clip` times its size (Ye et al. 2020,
    arXiv 1912.09729), without gradient beyond; without it a ratio of e^5 has 148 times the
    gradient of one on policy.
    """
    clipped = gains * ratios.clamp(min=1 - clip_low, max=1 + clip_high)
    better = torch.minimum(gains * ratios, clipped)
    if dual_clip is None:
        return -better
    return -torch.where(gains < 0, torch.maximum(better, dual_clip * gains), better)


def cispo_losses(ratios: Tensor, gains: Tensor, token_logps: Tensor, *, cap: float) -> Tensor:
    """REINFORCE with ratios that end at `cap` as weights without gradient (CISPO: MiniMax 2025,
    arXiv 2506.13585; ScaleRL: Khatri et al. 2025, arXiv 2510.13786). No token's gradient is
    clipped away. `token_logps` are (batch, tokens), 0 outside the mask.
    """
    return -ratios.detach().clamp(max=cap) * gains * token_logps


def kl_of(logratios: Tensor, estimate: Estimate) -> Tensor:
    """Estimates KL from log-ratios of policy and reference (Schulman 2020, "Approximating KL
    divergence"), each at least 0.

    Taken as a loss, on policy, k3's gradient is that of KL(reference || policy) and k2's that of
    KL(policy || reference).
    """
    if estimate == "k2":
        return 0.5 * logratios.square()
    logratios = logratios.clamp(min=-MAX_LOG)
    return torch.expm1(-logratios) + logratios


def sampler_weights(
    *, old_token_logps: Tensor, sampler_token_logps: Tensor, completion_mask: Tensor, cap: float
) -> Tensor:
    """Truncated importance sampling: min(exp(trainer - sampler), cap) per token, (batch, tokens),
    without gradient (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy
    RL training"; Ionides 2008).

    Both log-probabilities are of the same policy, computed by the trainer and by the sampler, at
    temperature 1 and over the whole vocabulary: under top-p or a penalty a sampler's own are of
    another distribution, whose ratio to the trainer's says nothing of rounding.
    """
    is_outside = ~completion_mask.bool()
    logratios = (old_token_logps - sampler_token_logps).masked_fill(is_outside, 0.0)
    return logratios.clamp(max=MAX_LOG).exp().clamp(max=cap).detach()

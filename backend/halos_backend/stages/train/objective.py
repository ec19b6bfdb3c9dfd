"""Turns token log-probabilities into a step's loss and metrics, for each kind of loss.

A step's loss is a mean over the whole step. It is computed in shares, one per microbatch: each is
already divided by the step's denominator, so that the shares of all microbatches and ranks, and
their gradients, simply add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from torch import Tensor

from halos_backend.config.losses import (
    BCO,
    CDPO,
    CSFT,
    DPO,
    EXO,
    GRPO,
    IPO,
    KTO,
    SFT,
    SPPO,
    APODown,
    APOZero,
    BradleyTerry,
    Loss,
    PairLoss,
    Robust,
    SimPO,
    SLiC,
)
from halos_backend.errors import StageError
from halos_backend.stages.train.losses.apo import apo_down_loss, apo_zero_loss
from halos_backend.stages.train.losses.bco import bco_loss
from halos_backend.stages.train.losses.bradley_terry import bradley_terry_loss
from halos_backend.stages.train.losses.cdpo import cdpo_loss
from halos_backend.stages.train.losses.dpo import dpo_loss
from halos_backend.stages.train.losses.exo import exo_loss
from halos_backend.stages.train.losses.grpo import grpo_token_loss, ratio_logs, sampler_weights
from halos_backend.stages.train.losses.ipo import ipo_loss
from halos_backend.stages.train.losses.kto import kto_loss
from halos_backend.stages.train.losses.logratios import (
    mean_over_completion,
    sum_over_completion,
    token_logratios,
    unclamped_frac,
)
from halos_backend.stages.train.losses.robust import robust_loss
from halos_backend.stages.train.losses.sft import sft_token_loss
from halos_backend.stages.train.losses.simpo import simpo_loss
from halos_backend.stages.train.losses.slic import slic_loss
from halos_backend.stages.train.losses.sppo import sppo_loss

Sums = dict[str, tuple[Tensor, Tensor | int]]
"""Holds of each metric the sum over the microbatch and what it was summed over."""


@dataclass(frozen=True)
class Rows:
    """Is a microbatch. Log-probabilities are (rows, completion tokens), the last two (rows,).

    `start_token_logps` and `sampler_token_logps` are of the policy that sampled, by the trainer and
    by the sampler, at temperature 1.

    Of pairs, the first half of the rows is chosen, the second half rejected, in the same order.
    """

    token_logps: Tensor
    completion_mask: Tensor
    reference_token_logps: Tensor | None = None
    old_token_logps: Tensor | None = None
    start_token_logps: Tensor | None = None
    sampler_token_logps: Tensor | None = None
    is_desirable: Tensor | None = None
    advantages: Tensor | None = None


@dataclass(frozen=True)
class StepTotals:
    """Holds denominators of one optimizer step, over all microbatches and ranks.

    `max_new_tokens` is the longest that a completion may be; `kto_kl` and `bco_shift` are what the
    losses of these names measure from.
    """

    num_examples: int
    num_completion_tokens: int
    kto_kl: Tensor | None = None
    bco_shift: Tensor | None = None
    max_new_tokens: int = 0


@dataclass(frozen=True)
class Share:
    """Is a microbatch's part of the step's loss (a scalar with gradient), and its metrics' sums."""

    loss: Tensor
    sums: Sums


def metric_names(loss: Loss) -> tuple[str, ...]:
    """Returns the metrics that `share_of_step` sums up, the same on every rank."""
    pairs = ("implicit_reward_chosen", "implicit_reward_rejected", "implicit_reward_accuracy")
    clamped = ("unclamped_frac",) if clamp_of(loss) else ()
    match loss:
        case SFT() | CSFT() | SLiC():
            return ()
        case GRPO():
            sampler = ("sampler_ratio_mean", "sampler_capped_frac")
            with_sampler = () if loss.sampler_ratio_cap is None else sampler
            return ("advantage_abs_mean", "clip_frac", *with_sampler, *clamped)
        case BCO():
            return (*pairs, "bco_shift", *clamped)
        case _:
            return (*pairs, *clamped)


def clamp_of(loss: Loss) -> tuple[float, float] | None:
    """Returns humanline's bounds of a token's log-ratio, where the loss has them."""
    humanline = getattr(loss, "humanline", None)
    return (humanline.log_epsilon_p, humanline.log_epsilon_r) if humanline else None


def share_of_step(loss: Loss, rows: Rows, totals: StepTotals) -> Share:
    """Computes one microbatch's share of the step's loss, and its metrics."""
    mask = rows.completion_mask
    match loss:
        case DPO() | CDPO() | IPO() | Robust() | EXO() | APOZero() | APODown() | SPPO() | BCO():
            return _pair_share(loss, rows, totals)
        case SimPO():
            chosen, rejected = mean_over_completion(rows.token_logps, mask).chunk(2)
            losses = simpo_loss(
                chosen_mean_logps=chosen,
                rejected_mean_logps=rejected,
                beta=loss.beta,
                gamma_beta_ratio=loss.gamma_beta_ratio,
            )
            sums = _pair_sums(loss.beta * chosen, loss.beta * rejected)
            return Share(losses.sum() / totals.num_examples, sums)
        case SLiC():
            chosen, rejected = sum_over_completion(rows.token_logps, mask).chunk(2)
            losses = slic_loss(
                chosen_logps=chosen,
                rejected_logps=rejected,
                delta=loss.delta,
                lambda_coef=loss.lambda_coef,
            )
            return Share(losses.sum() / totals.num_examples, {})
        case KTO():
            return _kto_share(loss, rows, totals)
        case GRPO():
            return _grpo_share(loss, rows, totals)
        case SFT() | CSFT():
            losses = sft_token_loss(token_logps=rows.token_logps, completion_mask=mask)
            return Share(losses.sum() / max(1, totals.num_completion_tokens), {})
        case BradleyTerry():
            raise StageError("bradley_terry has rewards, not log-probabilities")
        case _:
            assert_never(loss)


def reward_share(rewards: Tensor, totals: StepTotals) -> Share:
    """Computes Bradley-Terry's share: `rewards` (rows,) of a reward model, chosen before
    rejected.
    """
    chosen, rejected = rewards.chunk(2)
    losses = bradley_terry_loss(chosen_rewards=chosen, rejected_rewards=rejected)
    return Share(losses.sum() / totals.num_examples, _pair_sums(chosen, rejected))


def logratio_sums(
    loss: Loss, *, token_logps: Tensor, reference_token_logps: Tensor, mask: Tensor
) -> Tensor:
    """Sums log-ratios over each completion, (rows,), clamped where the loss clamps."""
    logratios = token_logratios(
        policy_token_logps=token_logps,
        reference_token_logps=reference_token_logps,
        completion_mask=mask,
        clamp=clamp_of(loss),
    )
    return sum_over_completion(logratios, mask)


def _pair_share(loss: PairLoss, rows: Rows, totals: StepTotals) -> Share:
    logratios = token_logratios(
        policy_token_logps=rows.token_logps,
        reference_token_logps=_present(rows.reference_token_logps),
        completion_mask=rows.completion_mask,
        clamp=clamp_of(loss),
    )
    reduce = mean_over_completion if isinstance(loss, IPO) else sum_over_completion
    chosen, rejected = reduce(logratios, rows.completion_mask).chunk(2)
    strength = loss.tau if isinstance(loss, IPO) else loss.beta
    losses = _pair_losses(loss, chosen, rejected, totals)
    sums = _pair_sums(strength * chosen, strength * rejected)
    if isinstance(loss, BCO):
        sums["bco_shift"] = (_present(totals.bco_shift) * len(chosen), len(chosen))
    return Share(losses.sum() / totals.num_examples, sums | _clamp_sums(loss, rows))


def _pair_losses(loss: PairLoss, chosen: Tensor, rejected: Tensor, totals: StepTotals) -> Tensor:
    """Returns each pair's loss, of log-ratios (pairs,)."""
    pair = {"chosen_logratios": chosen, "rejected_logratios": rejected}
    match loss:
        case DPO():
            return dpo_loss(**pair, beta=loss.beta)
        case CDPO():
            return cdpo_loss(**pair, beta=loss.beta, label_smoothing=loss.label_smoothing)
        case IPO():
            return ipo_loss(
                chosen_mean_logratios=chosen, rejected_mean_logratios=rejected, tau=loss.tau
            )
        case Robust():
            return robust_loss(**pair, beta=loss.beta, label_smoothing=loss.label_smoothing)
        case EXO():
            return exo_loss(**pair, beta=loss.beta, label_smoothing=loss.label_smoothing)
        case APOZero():
            return apo_zero_loss(**pair, beta=loss.beta)
        case APODown():
            return apo_down_loss(**pair, beta=loss.beta)
        case SPPO():
            return sppo_loss(**pair, beta=loss.beta)
        case BCO():
            return bco_loss(**pair, beta=loss.beta, shift=_present(totals.bco_shift))
        case _:
            assert_never(loss)


def _pair_sums(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Sums:
    chosen, rejected = chosen_rewards.detach(), rejected_rewards.detach()
    count = len(chosen)
    return {
        "implicit_reward_chosen": (chosen.sum(), count),
        "implicit_reward_rejected": (rejected.sum(), count),
        "implicit_reward_accuracy": ((chosen > rejected).sum(), count),
    }


def _kto_share(loss: KTO, rows: Rows, totals: StepTotals) -> Share:
    """Computes KTO's share; accuracy is the share of completions on the right side of the reference
    point.
    """
    is_desirable, kl = _present(rows.is_desirable), _present(totals.kto_kl)
    logratios = logratio_sums(
        loss,
        token_logps=rows.token_logps,
        reference_token_logps=_present(rows.reference_token_logps),
        mask=rows.completion_mask,
    )
    losses = kto_loss(
        logratios=logratios,
        is_desirable=is_desirable,
        kl=kl,
        beta=loss.beta,
        desirable_weight=loss.desirable_weight,
        undesirable_weight=loss.undesirable_weight,
    )
    rewards = loss.beta * logratios.detach()
    gains = logratios.detach() - kl
    is_right = ((gains > 0) & is_desirable) | ((gains < 0) & ~is_desirable)
    sums: Sums = {
        "implicit_reward_chosen": ((rewards * is_desirable).sum(), is_desirable.sum()),
        "implicit_reward_rejected": ((rewards * ~is_desirable).sum(), (~is_desirable).sum()),
        "implicit_reward_accuracy": (is_right.sum(), len(rewards)),
    }
    return Share(losses.sum() / totals.num_examples, sums | _clamp_sums(loss, rows))


def _grpo_share(loss: GRPO, rows: Rows, totals: StepTotals) -> Share:
    advantages, old = _present(rows.advantages), _present(rows.old_token_logps)
    mask = rows.completion_mask
    weights, sums = _sampler_weights(loss, rows)
    losses = grpo_token_loss(
        token_logps=rows.token_logps,
        old_token_logps=old,
        reference_token_logps=_present(rows.reference_token_logps),
        advantages=advantages,
        completion_mask=mask,
        beta=0.0 if loss.kl_in == "reward" else loss.beta,
        clip_low=loss.clip_low,
        clip_high=loss.clip_high,
        clamp=clamp_of(loss),
        ratio=loss.ratio,
        dual_clip=loss.dual_clip,
        cispo_cap=loss.cispo_cap,
        kl_estimate=loss.kl_estimate,
        weights=weights,
    )
    match loss.aggregation:
        case "token":
            share = losses.sum() / max(1, totals.num_completion_tokens)
        case "sequence":
            share = mean_over_completion(losses, mask).sum() / totals.num_examples
        case "constant":
            share = losses.sum() / (totals.num_examples * totals.max_new_tokens)
        case _:
            assert_never(loss.aggregation)
    is_clipped = _is_clipped(loss, rows.token_logps.detach() - old, advantages.unsqueeze(-1), mask)
    sums |= {
        "advantage_abs_mean": (advantages.abs().sum(), len(advantages)),
        "clip_frac": ((is_clipped & mask).sum(), mask.sum()),
    }
    return Share(share, sums | _clamp_sums(loss, rows))


def _is_clipped(loss: GRPO, logratios: Tensor, gains: Tensor, mask: Tensor) -> Tensor:
    """Says which tokens have no gradient because their ratio is clipped; of CISPO, whose ratio is
    at the cap.
    """
    logs = logratios if loss.ratio == "token" else logratios.masked_fill(~mask, 0.0)
    ratios = ratio_logs(logs, mask, loss.ratio).exp()
    if loss.cispo_cap is not None:
        return ratios > loss.cispo_cap
    is_clipped = ((ratios > 1 + loss.clip_high) & (gains > 0)) | (
        (ratios < 1 - loss.clip_low) & (gains < 0)
    )
    if loss.dual_clip is not None:
        is_clipped |= (ratios > loss.dual_clip) & (gains < 0)
    return is_clipped


def _sampler_weights(loss: GRPO, rows: Rows) -> tuple[Tensor | None, Sums]:
    """Returns the weights of truncated importance sampling, and their metrics; None without it."""
    if loss.sampler_ratio_cap is None:
        return None, {}
    mask = rows.completion_mask
    weights = sampler_weights(
        old_token_logps=_present(rows.start_token_logps),
        sampler_token_logps=_present(rows.sampler_token_logps),
        completion_mask=mask,
        cap=loss.sampler_ratio_cap,
    )
    is_capped = (weights >= loss.sampler_ratio_cap) & mask
    return weights, {
        "sampler_ratio_mean": (weights.masked_fill(~mask, 0.0).sum(), mask.sum()),
        "sampler_capped_frac": (is_capped.sum(), mask.sum()),
    }


def _clamp_sums(loss: Loss, rows: Rows) -> Sums:
    """Counts how many tokens humanline leaves alone: of the log-ratio that it clamps."""
    clamp = clamp_of(loss)
    if clamp is None:
        return {}
    against = rows.old_token_logps if isinstance(loss, GRPO) else rows.reference_token_logps
    share = unclamped_frac(
        policy_token_logps=rows.token_logps,
        reference_token_logps=_present(against),
        completion_mask=rows.completion_mask,
        clamp=clamp,
    )
    num_tokens = rows.completion_mask.sum()
    return {"unclamped_frac": (share * num_tokens, num_tokens)}


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise StageError("the loss needs log-probabilities that were not computed: a defect")
    return tensor

"""Makes the train stage's summary: what StageFinished says of a round of training."""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence

import torch

from halos_backend.events.summaries import TrainSummary
from halos_backend.stages.train.canary_check import CanaryFigures
from halos_backend.stages.train.examples import RoundExamples
from halos_backend.stages.train.kl_initial import KlInitial


def summarize(
    history: Sequence[dict[str, float]],
    *,
    num_masked: int | None,
    kl: KlInitial | None,
    canary: CanaryFigures | None,
    peak_memory_bytes: int,
    optimizer: str,
    elapsed_s: float,
) -> TrainSummary:
    """Sums a round up; `history` are the metrics of each step.

    `num_masked` examples gave no loss because a completion was cut off; None where they may.
    `canary` is the comparison with the sampler, where there was one.
    """
    last_quarter = history[-math.ceil(len(history) / 4) :]
    num_tokens = sum(metrics["num_tokens"] for metrics in history)
    training_s = sum(metrics["num_tokens"] / metrics["tokens_per_s"] for metrics in history)
    return TrainSummary(
        num_steps=len(history),
        num_examples=int(sum(metrics["num_examples"] for metrics in history)),
        num_masked=num_masked,
        loss_first=history[0]["loss"],
        loss_last=history[-1]["loss"],
        implicit_reward_chosen=_mean("implicit_reward_chosen", last_quarter),
        implicit_reward_rejected=_mean("implicit_reward_rejected", last_quarter),
        implicit_reward_margin=_mean("implicit_reward_margin", last_quarter),
        implicit_reward_accuracy=_mean("implicit_reward_accuracy", last_quarter),
        kl_initial=None if kl is None else kl.mean,
        kl_initial_stderr=None if kl is None else kl.stderr,
        grad_norm_mean=_mean("grad_norm", history),
        grad_norm_last=history[-1]["grad_norm"],
        num_tokens=int(num_tokens),
        tokens_per_s=num_tokens / training_s,
        lr_last=history[-1]["lr"],
        peak_memory_bytes=peak_memory_bytes,
        optimizer=optimizer,
        num_canary_tokens=None if canary is None else canary.num_tokens,
        canary_diff_mean=None if canary is None else canary.diff_mean,
        canary_diff_max=None if canary is None else canary.diff_max,
        canary_diff_limit=None if canary is None else canary.diff_limit,
        elapsed_s=elapsed_s,
    )


def summarize_untrained(made: RoundExamples, *, elapsed_s: float) -> TrainSummary:
    """Sums up a round whose feedback has nothing that the loss learns from; `untrained` says so."""
    reason = (
        "all feedback is of completions that were cut off (train.mask_cut_off)"
        if made.num_masked
        else "no completion is desirable, and the loss learns from no others"
    )
    return TrainSummary(
        num_steps=0,
        num_examples=0,
        num_masked=made.num_masked,
        untrained=reason,
        elapsed_s=elapsed_s,
    )


def forget_peak_memory(device: torch.device) -> None:
    """Forgets what earlier rounds of this process held on a GPU: it is not this round's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Returns the most this process held: of the GPU's memory, or of the host's where it trains
    there.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _mean(name: str, history: Sequence[dict[str, float]]) -> float | None:
    """Returns the mean over the steps that have the metric; None where none has."""
    values = [metrics[name] for metrics in history if name in metrics]
    return sum(values) / len(values) if values else None

"""Owns what a finished stage says of itself in `DONE` and `StageFinished`: one Struct per stage.

A figure without a meaning is null there, and one that was not looked for is left out; both are None
here. Of what another version wrote, names and types that are not known here are passed over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from halos_backend.events.base import Stage
from halos_backend.records import BAD_JSON


class MeasuredUse(msgspec.Struct, frozen=True, kw_only=True):
    """Says what a stage used while it ran, as telemetry saw it; a figure without readings is left
    out.

    `gpu_utilization_frac`, `cpu_utilization_frac`: means, 0..1.

    `gpu_energy_j`: of all the run's GPUs together.

    `gpu_peak_memory_bytes`: the most that was used on one GPU, by whomever.

    `gpu_own_peak_memory_bytes`: the most that the stage's processes used on one GPU.

    `host_peak_memory_bytes`: the most that was used on the host, by whomever.
    """

    gpu_utilization_frac: float | None = None
    cpu_utilization_frac: float | None = None
    gpu_energy_j: float | None = None
    gpu_peak_memory_bytes: int | None = None
    gpu_own_peak_memory_bytes: int | None = None
    host_peak_memory_bytes: int | None = None

    @property
    def nulls(self) -> Collection[str]:
        """Names figures that are written even where they have no meaning."""
        return ()

    def as_json(self) -> dict[str, Any]:
        """Returns what is written: a stage's own figures first."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {
            name: found[name]
            for name in sorted(found, key=lambda name: name in StageSummary.__struct_fields__)
            if found[name] is not None or name in self.nulls
        }


class StageSummary(MeasuredUse, frozen=True, kw_only=True):
    """Holds what every stage says.

    `host_own_peak_memory_bytes` are those of its processes; `non_finite` names figures that were
    NaN or infinite, for which JSON has no word.
    """

    elapsed_s: float | None = None
    host_own_peak_memory_bytes: int | None = None
    non_finite: tuple[str, ...] | None = None


class SampleSummary(StageSummary, frozen=True, kw_only=True):
    """Sums up sampling; lengths are in tokens, and `num_reused` completions are of earlier
    attempts.
    """

    num_prompts: int | None = None
    num_completions: int | None = None
    num_tokens: int | None = None
    tokens_per_s: float | None = None
    length_mean: float | None = None
    length_q05: float | None = None
    length_q25: float | None = None
    length_q50: float | None = None
    length_q75: float | None = None
    length_q95: float | None = None
    truncated_frac: float | None = None
    unique_frac: float | None = None
    num_reused: int | None = None
    engine: str | None = None
    engine_reason: str | None = None

    @property
    def nulls(self) -> Collection[str]:
        return ("tokens_per_s",)


class RewardHistogram(msgspec.Struct, frozen=True):
    """Counts rewards in bins; `edges` are one more than `counts`."""

    edges: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()


class LabelSummary(StageSummary, frozen=True, kw_only=True):
    """Sums up labelling.

    `num_pairs_kept` and `num_pairs_dropped` count pairs; completions where feedback is binary,
    groups where it is scalar. `reward_change_stderrs` has the rounds that the mean is compared
    with; older versions wrote neither it nor `reward_stderr`. `num_judge_answers` and what follows
    is of a judge behind an API: answers paid in the round, those that were there already, failed
    calls of this attempt; `judge_cost_so_far` is of the run. `tie_frac` is the share of its
    matches that are ties, `flip_frac` that of those asked in both orders, which disagreed.
    """

    num_completions: int | None = None
    num_unscored: int | None = None
    unscored_frac: float | None = None
    unscored_reasons: dict[str, int] | None = None
    reward_mean: float | None = None
    reward_std: float | None = None
    reward_min: float | None = None
    reward_max: float | None = None
    reward_q05: float | None = None
    reward_q25: float | None = None
    reward_q50: float | None = None
    reward_q75: float | None = None
    reward_q95: float | None = None
    reward_histogram: RewardHistogram | None = None
    reward_length_corr: float | None = None
    num_feedback: int | None = None
    num_pairs_kept: int | None = None
    num_pairs_dropped: int | None = None
    margin_mean: float | None = None
    num_desirable: int | None = None
    num_equal_groups: int | None = None
    reward_stderr: float | None = None
    reward_change_stderrs: list[tuple[int, float | None]] | None = None
    num_cut_off: int | None = None
    num_cut_off_dropped: int | None = None
    num_cut_off_penalized: int | None = None
    num_overlong: int | None = None
    reward_mean_penalized: float | None = None
    engine: str | None = None
    num_judge_answers: int | None = None
    num_judge_reused: int | None = None
    num_judge_failed: int | None = None
    num_judge_prompt_tokens: int | None = None
    num_judge_answer_tokens: int | None = None
    judge_cost: float | None = None
    judge_cost_so_far: float | None = None
    num_judge_matches: int | None = None
    tie_frac: float | None = None
    flip_frac: float | None = None

    @property
    def nulls(self) -> Collection[str]:
        rewards = [name for name in self.__struct_fields__ if name.startswith("reward_")]
        if self.num_cut_off_penalized is None and self.num_overlong is None:
            rewards.remove("reward_mean_penalized")
        return (*rewards, "num_feedback", "margin_mean", "num_desirable")


class TrainSummary(StageSummary, frozen=True, kw_only=True):
    """Sums up training; implicit rewards are means of the last quarter of the steps.

    `untrained` says why there was nothing to learn from; then most figures are left out.
    `optimizer` says what became of AdamW's moments: `new`, `kept`, or `reset: ` and why. `canary_*`
    compare the policy with the sampler's.
    """

    num_steps: int | None = None
    num_examples: int | None = None
    num_masked: int | None = None
    untrained: str | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    implicit_reward_chosen: float | None = None
    implicit_reward_rejected: float | None = None
    implicit_reward_margin: float | None = None
    implicit_reward_accuracy: float | None = None
    kl_initial: float | None = None
    kl_initial_stderr: float | None = None
    grad_norm_mean: float | None = None
    grad_norm_last: float | None = None
    num_tokens: int | None = None
    tokens_per_s: float | None = None
    lr_last: float | None = None
    peak_memory_bytes: int | None = None
    optimizer: str | None = None
    num_canary_tokens: int | None = None
    canary_diff_mean: float | None = None
    canary_diff_max: float | None = None
    canary_diff_limit: float | None = None

    @property
    def nulls(self) -> Collection[str]:
        if self.untrained is not None:
            return ()
        figures = ("implicit_reward_", "kl_initial", "grad_norm_")
        return [name for name in self.__struct_fields__ if name.startswith(figures)]


SUMMARIES: Mapping[Stage, type[StageSummary]] = {
    "sample": SampleSummary,
    "label": LabelSummary,
    "train": TrainSummary,
}

Kind = TypeVar("Kind", bound=StageSummary)


def read_summary(content: bytes | msgspec.Raw, kind: type[Kind]) -> Kind:
    """Reads a summary as it is written; what is not of its type is taken for unknown."""
    try:
        return msgspec.json.decode(content, type=kind)
    except BAD_JSON:
        return as_summary(msgspec.json.decode(content), kind)


def as_summary(found: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """Takes the summary of an event, in the same way."""
    try:
        return msgspec.convert(found, kind)
    except (msgspec.ValidationError, OverflowError):
        return kind(**dict(_fitting(found, kind)))


def _fitting(found: Mapping[str, Any], kind: type[StageSummary]) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(kind):
        if field.name in found:
            with contextlib.suppress(msgspec.ValidationError, OverflowError):
                yield field.name, msgspec.convert(found[field.name], field.type)

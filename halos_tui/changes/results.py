"""Compares two rounds figure by figure, and says if a difference is more than noise. It is pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from halos_backend.events import STAGES, Stage
from halos_backend.events.summaries import StageSummary
from halos_backend.store.round_state import RoundState
from halos_backend.store.standard_error import Significance, reward_of, significance_of

from halos_tui.formatting import Unit, unit_of


@dataclass(frozen=True)
class Measure:
    """This is a figure of a stage's summary: its key there, and its name on the screen."""

    name: str
    stage: Stage
    key: str


REWARD = Measure("reward", "label", "reward_mean")
KL = Measure("KL to the start", "train", "kl_initial")
MEASURES: tuple[Measure, ...] = (
    REWARD,
    Measure("reward spread", "label", "reward_std"),
    KL,
    Measure("pairs kept", "label", "num_pairs_kept"),
    Measure("pairs dropped", "label", "num_pairs_dropped"),
    Measure("pair margin", "label", "margin_mean"),
    Measure("equal groups", "label", "num_equal_groups"),
    Measure("unscored", "label", "num_unscored"),
    Measure("judge's answers", "label", "num_judge_answers"),
    Measure("judge's cost", "label", "judge_cost"),
    Measure("flips with the order", "label", "flip_frac"),
    Measure("cut off, penalized", "label", "num_cut_off_penalized"),
    Measure("cut off, dropped", "label", "num_cut_off_dropped"),
    Measure("long, penalized", "label", "num_overlong"),
    Measure("cut off, masked", "train", "num_masked"),
    Measure("prompts", "sample", "num_prompts"),
    Measure("completions", "sample", "num_completions"),
    Measure("length", "sample", "length_mean"),
    Measure("cut off", "sample", "truncated_frac"),
    Measure("unique", "sample", "unique_frac"),
    Measure("loss, first", "train", "loss_first"),
    Measure("loss, last", "train", "loss_last"),
    Measure("train margin", "train", "implicit_reward_margin"),
    Measure("train accuracy", "train", "implicit_reward_accuracy"),
    Measure("gradient norm", "train", "grad_norm_mean"),
    Measure("steps", "train", "num_steps"),
    Measure("last lr", "train", "lr_last"),
    Measure("peak memory", "train", "peak_memory_bytes"),
)
TIMES: tuple[tuple[Stage, Measure], ...] = tuple(
    (stage, Measure(f"{stage} time", stage, "elapsed_s")) for stage in STAGES
)


@dataclass(frozen=True)
class Figure:
    """This is a value with its standard error, where there is one; it `is_share` where it is the
    mean of nothing but 0 and 1.
    """

    value: float
    stderr: float | None = None
    is_share: bool = False


@dataclass(frozen=True)
class Result:
    """This is one figure of both rounds; a round that does not have it has None.

    `paired_stderr` is the standard error of the difference where the rounds share prompts.
    """

    measure: Measure
    older: Figure | None
    newer: Figure | None
    paired_stderr: float | None = None

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Returns those that there are."""
        return tuple(one for one in (self.older, self.newer) if one is not None)

    @property
    def unit(self) -> Unit:
        is_share = self.figures and all(one.is_share for one in self.figures)
        return "share" if is_share else unit_of(self.measure.key)

    @property
    def difference(self) -> float | None:
        if self.older is None or self.newer is None:
            return None
        return self.newer.value - self.older.value

    @property
    def relative(self) -> float | None:
        """Returns the difference as a share of the older value's size; None where that is 0."""
        if self.difference is None or self.older is None or self.older.value == 0:
            return None
        return self.difference / abs(self.older.value)

    @property
    def stderr(self) -> float | None:
        """Returns the standard error of the difference."""
        if self.older is None or self.newer is None:
            return None
        if self.paired_stderr is not None:
            return self.paired_stderr
        one, other = self.older.stderr, self.newer.stderr
        return None if one is None or other is None else math.hypot(one, other)

    @property
    def significance(self) -> Significance | None:
        """Says whether the difference is more than noise explains; None where nobody knows."""
        return None if self.difference is None else significance_of(self.difference, self.stderr)


def compare_results(
    older: RoundState | None, newer: RoundState | None, *, paired_stderr: float | None = None
) -> tuple[Result, ...]:
    """Compares every figure that one of the rounds has; `paired_stderr` is the reward's."""
    before, now = _figures(older), _figures(newer)
    measures = [*MEASURES, *(measure for _, measure in TIMES)]
    return tuple(
        Result(
            measure,
            before.get(measure),
            now.get(measure),
            paired_stderr if measure == REWARD else None,
        )
        for measure in measures
        if measure in before or measure in now
    )


def _figures(round: RoundState | None) -> dict[Measure, Figure]:
    if round is None:
        return {}
    summaries: dict[Stage, StageSummary] = {
        name: stage.summary for name, stage in round.stages.items() if stage.status == "finished"
    }
    found: dict[Measure, Figure] = {}
    for measure in MEASURES:
        summary = summaries.get(measure.stage)
        value: float | None = None if summary is None else getattr(summary, measure.key)
        if value is not None:
            found[measure] = Figure(value)
    if (reward := reward_of(round)) is not None:
        found[REWARD] = Figure(reward.mean, reward.stderr, reward.is_share)
    if KL in found:
        found[KL] = Figure(found[KL].value, round.train_summary.kl_initial_stderr)
    for stage, measure in TIMES:
        elapsed_s = round.stages[stage].elapsed_s if stage in summaries else None
        if elapsed_s is not None:
            found[measure] = Figure(elapsed_s)
    return found

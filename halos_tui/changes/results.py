"""What came of two rounds, figure by figure, and whether a difference is more than noise. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from halos_backend.events import STAGES, Stage
from halos_backend.store.round_state import RoundState

Unit = Literal["number", "count", "share", "time", "size"]
Verdict = Literal["more than noise", "within noise", "perhaps noise"]

NUM_STDERRS = 2.0
"""A difference of more standard errors than that is no noise."""


@dataclass(frozen=True)
class Measure:
    """A figure of a stage's summary: its key there, and what it is called here."""

    name: str
    stage: Stage
    key: str
    unit: Unit = "number"


REWARD = Measure("reward", "label", "reward_mean")
KL = Measure("KL to the start", "train", "kl_initial")
MEASURES: tuple[Measure, ...] = (
    REWARD,
    Measure("reward spread", "label", "reward_std"),
    KL,
    Measure("pairs kept", "label", "num_pairs_kept", "count"),
    Measure("pairs dropped", "label", "num_pairs_dropped", "count"),
    Measure("pair margin", "label", "margin_mean"),
    Measure("unscored", "label", "num_unscored", "count"),
    Measure("cut off, penalized", "label", "num_cut_off_penalized", "count"),
    Measure("cut off, dropped", "label", "num_cut_off_dropped", "count"),
    Measure("cut off, masked", "train", "num_masked", "count"),
    Measure("prompts", "sample", "num_prompts", "count"),
    Measure("completions", "sample", "num_completions", "count"),
    Measure("length", "sample", "length_mean"),
    Measure("cut off", "sample", "truncated_frac", "share"),
    Measure("unique", "sample", "unique_frac", "share"),
    Measure("loss, first", "train", "loss_first"),
    Measure("loss, last", "train", "loss_last"),
    Measure("train margin", "train", "implicit_reward_margin"),
    Measure("train accuracy", "train", "implicit_reward_accuracy", "share"),
    Measure("gradient norm", "train", "grad_norm_mean"),
    Measure("steps", "train", "num_steps", "count"),
    Measure("last lr", "train", "lr_last"),
    Measure("peak memory", "train", "peak_memory_bytes", "size"),
)
TIMES: tuple[tuple[Stage, Measure], ...] = tuple(
    (stage, Measure(f"{stage} time", stage, "", "time")) for stage in STAGES
)


@dataclass(frozen=True)
class Figure:
    """A value with its standard error, where there is one.

    `stderr_most` is the greatest that it can be, where what was measured is not independent.
    """

    value: float
    stderr: float | None = None
    stderr_most: float | None = None


@dataclass(frozen=True)
class Result:
    """One figure of both rounds; None where a round does not have it."""

    measure: Measure
    older: Figure | None
    newer: Figure | None

    @property
    def difference(self) -> float | None:
        if self.older is None or self.newer is None:
            return None
        return self.newer.value - self.older.value

    @property
    def relative(self) -> float | None:
        """Of the older value's size; None where that is 0."""
        if self.difference is None or self.older is None or self.older.value == 0:
            return None
        return self.difference / abs(self.older.value)

    @property
    def stderr(self) -> float | None:
        """Of the difference: both are independent of each other."""
        if self.older is None or self.newer is None:
            return None
        return _both(self.older.stderr, self.newer.stderr)

    @property
    def verdict(self) -> Verdict | None:
        """Whether the difference is beyond NUM_STDERRS standard errors.

        `perhaps noise` is what is beyond those, but not beyond the greatest that they can be.
        """
        if self.difference is None or self.stderr is None:
            return None
        assert self.older is not None and self.newer is not None
        most = _both(self.older.stderr_most, self.newer.stderr_most)
        size = abs(self.difference)
        if size <= NUM_STDERRS * self.stderr:
            return "within noise"
        if most is not None and size <= NUM_STDERRS * most:
            return "perhaps noise"
        return "more than noise"


def compare_results(older: RoundState | None, newer: RoundState | None) -> tuple[Result, ...]:
    """Every figure that one of both rounds has."""
    before, now = _figures(older), _figures(newer)
    measures = [*MEASURES, *(measure for _, measure in TIMES)]
    return tuple(
        Result(measure, before.get(measure), now.get(measure))
        for measure in measures
        if measure in before or measure in now
    )


def reward_figure(label: Mapping[str, Any], num_prompts: float | None) -> Figure | None:
    """The mean reward with its standard error `reward_std / sqrt(n - 1)`, n scored completions.

    `reward_std` is the spread of just these. Completions of one prompt tend to be worth the same,
    so that the error is greater than that; it is greatest where n is the number of prompts.
    """
    mean, std = _number(label.get("reward_mean")), _number(label.get("reward_std"))
    if mean is None:
        return None
    num_completions = _number(label.get("num_completions"))
    num_scored = (num_completions or 0.0) - (_number(label.get("num_unscored")) or 0.0)
    return Figure(mean, _stderr(std, num_scored), _stderr(std, num_prompts))


def _figures(round: RoundState | None) -> dict[Measure, Figure]:
    if round is None:
        return {}
    summaries: dict[Stage, dict[str, Any]] = {
        name: stage.summary for name, stage in round.stages.items() if stage.status == "finished"
    }
    found: dict[Measure, Figure] = {}
    for measure in MEASURES:
        value = _number(summaries.get(measure.stage, {}).get(measure.key))
        if value is not None:
            found[measure] = Figure(value)
    num_prompts = _number(summaries.get("sample", {}).get("num_prompts"))
    reward = reward_figure(summaries.get("label", {}), num_prompts)
    if reward is not None:
        found[REWARD] = reward
    if KL in found:
        stderr = _number(summaries["train"].get("kl_initial_stderr"))
        found[KL] = Figure(found[KL].value, stderr)
    for stage, measure in TIMES:
        elapsed_s = round.stages[stage].elapsed_s if stage in summaries else None
        if elapsed_s is not None:
            found[measure] = Figure(elapsed_s)
    return found


def _number(value: object) -> float | None:
    """What an external command writes into a summary may be anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # more digits than a float takes
        return None
    return number if math.isfinite(number) else None


def _stderr(std: float | None, num: float | None) -> float | None:
    return None if std is None or num is None or num < 2 else std / math.sqrt(num - 1)


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.hypot(one, other)

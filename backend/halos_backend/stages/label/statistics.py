"""Computes the statistics of a round's rewards; null (None) where a figure has no meaning."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from halos_backend.events.summaries import RewardHistogram
from halos_backend.stages.quantiles import quantiles
from halos_backend.store.standard_error import change_stderr, pulls_of, rewards_in, stderr_of

NUM_BINS = 20


class RewardStatistics(NamedTuple):
    """Holds the statistics of a round's rewards."""

    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    q05: float | None = None
    q25: float | None = None
    q50: float | None = None
    q75: float | None = None
    q95: float | None = None
    histogram: RewardHistogram | None = None
    length_corr: float | None = None


class RewardErrors(NamedTuple):
    """Holds the standard errors of the mean reward and of its change from each earlier round."""

    stderr: float | None
    change_stderrs: list[tuple[int, float | None]]


def reward_statistics(
    rewards: Sequence[float], lengths: Sequence[int], *, rounding: float = 0.0
) -> RewardStatistics:
    """Computes the statistics. `lengths` are the completions' tokens.

    Rewards that differ by no more than the judge's rounding have no correlation with anything.
    """
    if not rewards:
        return RewardStatistics()
    low, high, spread = min(rewards), max(rewards), quantiles(rewards)
    is_noise = high - low <= rounding * max(abs(low), abs(high))
    return RewardStatistics(
        mean=low if low == high else statistics.fmean(rewards),
        std=0.0 if low == high else statistics.pstdev(rewards),
        min=low,
        max=high,
        q05=spread["q05"],
        q25=spread["q25"],
        q50=spread["q50"],
        q75=spread["q75"],
        q95=spread["q95"],
        histogram=histogram(rewards),
        length_corr=None if is_noise else correlation(rewards, lengths),
    )


def reward_errors(
    rewards: Sequence[tuple[str, Sequence[float]]], earlier: Mapping[str, str]
) -> RewardErrors:
    """Computes standard errors of the mean reward, over prompts, and of its changes.

    `rewards` are those of each prompt, `earlier` the `scores.jsonl` of rounds by their numbers.
    Raises CorruptFileError, OSError.
    """
    pulls = pulls_of(rewards)
    changes = [
        (int(round), change_stderr(pulls_of(rewards_in(Path(path))), pulls))
        for round, path in earlier.items()
    ]
    return RewardErrors(stderr_of(pulls), changes)


def histogram(values: Sequence[float]) -> RewardHistogram:
    """Counts values in 20 equal bins from the least to the greatest value; the last bin is closed.

    Equal values get one bin of width 1 around them.
    """
    low, high = min(values), max(values)
    if low == high:
        return RewardHistogram((low - 0.5, high + 0.5), (len(values),))
    edges = [low + (high - low) * index / NUM_BINS for index in range(NUM_BINS)] + [high]
    counts = [0] * NUM_BINS
    for value in values:
        counts[min(bisect_right(edges, value), NUM_BINS) - 1] += 1
    return RewardHistogram(tuple(edges), tuple(counts))


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Returns Pearson's correlation; None for fewer than two points or a constant side."""
    if len(xs) < 2 or min(xs) == max(xs) or min(ys) == max(ys):
        return None
    try:
        return max(-1.0, min(1.0, statistics.correlation(xs, ys)))
    except statistics.StatisticsError:  # values so close that their variance is 0 in floats
        return None

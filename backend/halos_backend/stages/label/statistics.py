"""Computes the statistics of a round's rewards; null (None) where a figure has no meaning."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halos_backend.stages.quantiles import quantiles
from halos_backend.store.reward_change import change_stderr, pulls_of, rewards_in, stderr_of

NUM_BINS = 20


def reward_statistics(
    rewards: Sequence[float], lengths: Sequence[int], *, rounding: float = 0.0
) -> dict[str, Any]:
    """Returns the `reward_*` keys of the stage's summary. `lengths` are the completions' tokens.

    Rewards that differ by no more than the judge's rounding have no correlation with anything.
    """
    low, high = min(rewards, default=0.0), max(rewards, default=0.0)
    is_noise = high - low <= rounding * max(abs(low), abs(high))
    names = ("mean", "std", "min", "max", *quantiles([0.0]))
    values: dict[str, float | None] = dict.fromkeys(names)
    if rewards:
        is_constant = min(rewards) == max(rewards)
        values = {
            "mean": rewards[0] if is_constant else statistics.fmean(rewards),
            "std": 0.0 if is_constant else statistics.pstdev(rewards),
            "min": min(rewards),
            "max": max(rewards),
            **quantiles(rewards),
        }
    return {
        **{f"reward_{name}": value for name, value in values.items()},
        "reward_histogram": histogram(rewards) if rewards else None,
        "reward_length_corr": None if is_noise else correlation(rewards, lengths),
    }


def reward_errors(
    rewards: Sequence[tuple[str, Sequence[float]]], earlier: Mapping[str, str]
) -> dict[str, Any]:
    """Returns standard errors of the mean reward, over prompts, and of its change from each earlier
    round.

    `rewards` are those of each prompt, `earlier` the `scores.jsonl` of rounds by their numbers.
    Raises CorruptFileError, OSError.
    """
    pulls = pulls_of(rewards)
    changes = [
        (int(round), change_stderr(pulls_of(rewards_in(Path(path))), pulls))
        for round, path in earlier.items()
    ]
    return {"reward_stderr": stderr_of(pulls), "reward_change_stderrs": changes}


def histogram(values: Sequence[float]) -> dict[str, list[float] | list[int]]:
    """Counts values in 20 equal bins from the least to the greatest value; the last bin is closed.

    Equal values get one bin of width 1 around them.
    """
    low, high = min(values), max(values)
    if low == high:
        return {"edges": [low - 0.5, high + 0.5], "counts": [len(values)]}
    edges = [low + (high - low) * index / NUM_BINS for index in range(NUM_BINS)] + [high]
    counts = [0] * NUM_BINS
    for value in values:
        counts[min(bisect_right(edges, value), NUM_BINS) - 1] += 1
    return {"edges": edges, "counts": counts}


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Returns Pearson's correlation; None for fewer than two points or a constant side."""
    if len(xs) < 2 or min(xs) == max(xs) or min(ys) == max(ys):
        return None
    try:
        return max(-1.0, min(1.0, statistics.correlation(xs, ys)))
    except statistics.StatisticsError:  # values so close that their variance is 0 in floats
        return None

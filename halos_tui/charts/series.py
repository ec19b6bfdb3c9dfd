"""Owns series of points: smoothing, thinning to what a screen can show, and reading a value off."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

Point = tuple[float, float]
"""A point is x and y."""
MAX_STYLE = 6


@dataclass(frozen=True, eq=False)
class Series:
    """`xs` ascend and are finite, with one value each in `ys`, `low` and `high`; NaN is a gap.

    `low` and `high` are a spread around the line. `style_index` is 1 to 6, or 0 for a faint line
    that is in no legend, such as the raw values behind smoothed ones. Raises ValueError where
    lengths differ.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style_index: int = 1

    def __post_init__(self) -> None:
        others = [values for values in (self.ys, self.low, self.high) if values is not None]
        if any(len(values) != len(self.xs) for values in others):
            raise ValueError(f"series '{self.name}': xs, ys, low and high differ in length")

    @property
    def style(self) -> str:
        """Returns series-1 to series-6 in turn; series-0 is faint."""
        index = self.style_index
        return f"series-{1 + (index - 1) % MAX_STYLE if index > 0 else 0}"


def with_gaps(values: Iterable[float | None]) -> list[float]:
    """Puts NaN where there is no value."""
    return [math.nan if value is None else float(value) for value in values]


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Returns an exponential moving average without the bias of its start, as TensorBoard has it.

    `weight` is that of the past, 0 up to below 1. What is not finite stays as it is and counts for
    nothing. Raises ValueError for another weight.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"the weight of the past is 0 up to below 1, not {weight}")
    result, past, share = [], 0.0, 1.0
    for value in values:
        if math.isfinite(value):
            past = past * weight + value * (1 - weight)
            share *= weight
            result.append(past / (1 - share))
        else:
            result.append(value)
    return result


def index_at(xs: Sequence[float], x: float) -> int | None:
    """Returns the index of the last point at or before `x`; None before the first."""
    index = bisect_right(xs, x) - 1
    return index if index >= 0 else None


def thinned(series: Series, *, low: float, high: float, num_buckets: int) -> Series:
    """Keeps at most four points in each of `num_buckets` equal parts of `low` to `high`.

    These are the first, the least, the greatest and the last (M4, Jugel et al. 2014), so that a
    line through them looks the same and no spike is lost. One point before and after stays, for the
    line that enters and leaves; a part without any finite value leaves a gap.
    """
    start = max(0, bisect_left(series.xs, low) - 1)
    stop = min(len(series.xs), bisect_right(series.xs, high) + 1)
    if stop - start <= 4 * num_buckets:
        return _sliced(series, range(start, stop))
    edges = [low + (high - low) * place / num_buckets for place in range(1, num_buckets)]
    cuts = [start, start + 1]
    cuts += [bisect_left(series.xs, edge, start + 1, stop - 1) for edge in edges]
    cuts += [stop - 1, stop]
    kept: list[int] = []
    bands: list[tuple[float, float]] = []
    for first, last in pairwise(cuts):
        if first < last:
            indices = _telling(series.ys, first, last)
            kept += indices
            bands += [_band(series, first, last)] * len(indices)
    thin = _sliced(series, kept)
    if series.low is None or series.high is None:
        return thin
    return replace(thin, low=[band[0] for band in bands], high=[band[1] for band in bands])


def extremes(values: Sequence[float]) -> tuple[float, float] | None:
    """Returns the least and the greatest of the finite values."""
    if not values:
        return None
    low, high = min(values), max(values)
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else None


def _sliced(series: Series, indices: Iterable[int]) -> Series:
    kept = list(indices)
    return replace(
        series,
        xs=[series.xs[index] for index in kept],
        ys=[series.ys[index] for index in kept],
        low=None if series.low is None else [series.low[index] for index in kept],
        high=None if series.high is None else [series.high[index] for index in kept],
    )


def _telling(ys: Sequence[float], first: int, last: int) -> list[int]:
    """Returns the points that make the picture of one part: first, least, greatest, last."""
    part = ys[first:last]
    ends = extremes(part)
    if ends is None:
        return [first]
    finite = [index for index in (0, len(part) - 1) if math.isfinite(part[index])]
    places = {*finite, part.index(ends[0]), part.index(ends[1])}
    return [first + place for place in sorted(places)]


def _band(series: Series, first: int, last: int) -> tuple[float, float]:
    if series.low is None or series.high is None:
        return math.nan, math.nan
    lows, highs = extremes(series.low[first:last]), extremes(series.high[first:last])
    return (lows[0] if lows else math.nan, highs[1] if highs else math.nan)

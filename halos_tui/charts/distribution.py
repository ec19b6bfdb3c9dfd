"""Owns how values are spread, as plain data; stands alone because a verb reads it without drawing.

It holds a histogram and its quantiles, and makes heights of columns of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from halos_tui.charts.axis import Scale

QUANTILES = ("q05", "q25", "q50", "q75", "q95")


@dataclass(frozen=True)
class Distribution:
    """`edges` ascend and are one more than `counts`; `quantiles` has q05, q25, q50, q75 and q95.

    Any of them may be missing: the rest is shown.
    """

    name: str
    edges: Sequence[float] = ()
    counts: Sequence[float] = ()
    quantiles: Mapping[str, float] = field(default_factory=dict)

    @property
    def bins(self) -> list[tuple[float, float, float]]:
        """Returns low edge, high edge and count of each bin; nothing where the data makes no
        sense.
        """
        if len(self.edges) != len(self.counts) + 1:
            return []
        bins = list(zip(self.edges, self.edges[1:], self.counts, strict=False))
        is_sound = all(math.isfinite(sum(one)) and one[0] <= one[1] and one[2] >= 0 for one in bins)
        return bins if is_sound else []

    @property
    def ends(self) -> list[float]:
        """Returns the values that an axis has to reach."""
        edges = [edge for low, high, _ in self.bins for edge in (low, high)]
        return edges + [value for value in self.quantiles.values() if math.isfinite(value)]


def densities(distribution: Distribution, low: float, high: float, num_columns: int) -> list[float]:
    """Returns the share of all values in each of equal columns from `low` to `high`.

    Values are spread evenly in each bin; a bin without width is in the column it lies in. All
    shares are 0 where there is nothing.
    """
    columns = [0.0] * num_columns
    total = math.fsum(count for _, _, count in distribution.bins)
    if not num_columns or not total or not low < high:
        return columns
    scale = Scale(low, high)
    for bin_low, bin_high, count in distribution.bins:
        start, end = (num_columns * scale.share(edge) for edge in (bin_low, bin_high))
        first = min(num_columns - 1, max(0, math.floor(start)))
        last = min(num_columns - 1, max(first, math.ceil(end) - 1))
        for column in range(first, last + 1):
            inside = min(end, column + 1) - max(start, column)
            part = inside / (end - start) if end > start else 1.0
            columns[column] += max(0.0, part) * count / total
    return columns

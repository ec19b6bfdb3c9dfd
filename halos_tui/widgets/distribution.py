"""How values are spread: a histogram and its quantiles, as plain data and as heights of columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from halos_tui.widgets.axis import Scale

QUANTILES = ("q05", "q25", "q50", "q75", "q95")


@dataclass(frozen=True)
class Distribution:
    """`edges` ascending, one more than `counts`; `quantiles` has q05, q25, q50, q75 and q95.

    Any of them may be missing: what is there is shown.
    """

    name: str
    edges: Sequence[float] = ()
    counts: Sequence[float] = ()
    quantiles: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_rewards(cls, name: str, summary: Mapping[str, Any]) -> Distribution:
        """Of the summary of a label stage: `reward_histogram` and `reward_q05` to `reward_q95`."""
        histogram = summary.get("reward_histogram") or {}
        found = {quantile: summary.get(f"reward_{quantile}") for quantile in QUANTILES}
        return cls(
            name,
            tuple(histogram.get("edges", ())),
            tuple(histogram.get("counts", ())),
            {quantile: value for quantile, value in found.items() if value is not None},
        )

    @property
    def bins(self) -> list[tuple[float, float, float]]:
        """Low edge, high edge and count of each bin; none where the data makes no sense."""
        if len(self.edges) != len(self.counts) + 1:
            return []
        bins = list(zip(self.edges, self.edges[1:], self.counts, strict=False))
        is_sound = all(math.isfinite(sum(one)) and one[0] <= one[1] and one[2] >= 0 for one in bins)
        return bins if is_sound else []

    @property
    def ends(self) -> list[float]:
        """Of what there is to show on an axis."""
        edges = [edge for low, high, _ in self.bins for edge in (low, high)]
        return edges + [value for value in self.quantiles.values() if math.isfinite(value)]


def densities(distribution: Distribution, low: float, high: float, num_columns: int) -> list[float]:
    """The share of all values in each of equal columns from `low` to `high`, spread in each bin.

    A bin without width is in the column it lies in. All 0 where there is nothing.
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

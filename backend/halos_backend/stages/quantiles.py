"""Computes the quantiles that summaries report."""

from __future__ import annotations

from collections.abc import Sequence

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Returns quantiles by name, of at least one value."""
    ordered = sorted(values)
    return {name: quantile(ordered, share) for name, share in QUANTILES.items()}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Interpolates linearly between order statistics (numpy's default, Hyndman and Fan's
    type 7).
    """
    below, weight = divmod(share * (len(ordered) - 1), 1)
    low = ordered[int(below)]
    high = ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + (high - low) * weight

"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-:=+*#"


def sparkline(values: Sequence[float | None], width: int, ascii: bool = False) -> str:
    """At most `width` characters, one a value, or one for the mean of several neighbours.

    What is missing or not finite is a blank; equal values stand in the middle.
    """
    num_cells = max(0, min(width, len(values)))
    cuts = [len(values) * place // num_cells for place in range(num_cells + 1)] if num_cells else []
    means = [_mean(values[start:end]) for start, end in pairwise(cuts)]
    known = [value for value in means if value is not None]
    if not known:
        return " " * num_cells
    levels = ASCII_LEVELS if ascii else LEVELS
    low, high = min(known), max(known)
    return "".join(
        " " if value is None else levels[_level(value, low, high, len(levels))] for value in means
    )


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return None
    return fmean([value / len(finite) for value in finite]) * len(finite)


def _level(value: float, low: float, high: float, num_levels: int) -> int:
    if low == high:
        return (num_levels - 1) // 2
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return min(num_levels - 1, int(share * num_levels))

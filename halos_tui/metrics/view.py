"""Owns what the metrics screen asks for, and what it gets to draw. These are plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from halos_tui.charts.series import MAX_STYLE, Series
from halos_tui.formatting import Unit
from halos_tui.search_term import SearchTerm

LineKey = tuple[str, int | None]
"""It names a line in all charts: its run, and by step its round."""
Kind = Literal["round", "step"]
"""A metric has one value a round, or one a step of a round's training."""
MOST_LINES = MAX_STYLE
"""One chart has as many lines as can be told apart."""
WEIGHTS = (0.0, 0.6, 0.9, 0.97)
"""These are the weights of the past when a line is smoothed."""


@dataclass(frozen=True)
class MetricsQuery:
    """`kind` is None until a person chose one. Without a `term` there is the first page, or all
    charts where it `is_whole`.

    By step, `num_overlaid` rounds up to `newest` are laid over each other; up to the last that
    trains or has trained where that is None.
    """

    kind: Kind | None = None
    term: SearchTerm | None = None
    newest: int | None = None
    num_overlaid: int = 1
    weight: float = 0.0
    is_whole: bool = False


@dataclass(frozen=True, eq=False)
class MetricLine:
    """This is one metric of one run over its rounds, or over the steps of its `round`.

    `xs` ascend; NaN is a gap. Where one point stands for several steps, `lows` and `highs` are
    their extremes, and `events` is the file that has them all.
    Values are in seconds, bytes and fractions, as `unit` says.
    """

    run: str
    round: int | None
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] | None = None
    highs: Sequence[float] | None = None
    events: Path | None = None
    unit: Unit = "number"


@dataclass(frozen=True, eq=False)
class Chart:
    """Holds all lines of one metric, in the order of the runs, and the same ready to be drawn: in
    the `unit` that stands behind the values.
    """

    name: str
    lines: tuple[MetricLine, ...]
    series: tuple[Series, ...] = ()
    unit: str = ""


@dataclass(frozen=True, eq=False)
class MetricsView:
    """`charts` are on the first page, or fit the term; `num_charts` counts all there are, and
    `num_constant` those that are left out because all their values are equal.

    `keys` are those of all lines, whose places are their styles in every chart. `num_others` counts
    the charts of the other kind that are shown there. `rounds` are those laid over each other,
    oldest first; `last` is the newest there is.
    """

    query: MetricsQuery = field(default_factory=MetricsQuery)
    kind: Kind = "round"
    keys: tuple[LineKey, ...] = ()
    charts: tuple[Chart, ...] = ()
    num_charts: int = 0
    num_constant: int = 0
    num_others: int = 0
    rounds: tuple[int, ...] = ()
    last: int = 0

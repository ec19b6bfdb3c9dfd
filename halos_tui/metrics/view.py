"""Owns what the metrics screen asks for, and what it gets to draw. These are plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from halos_tui.charts.series import MAX_STYLE, Series
from halos_tui.search_term import SearchTerm

Kind = Literal["round", "step"]
"""A metric has one value a round, or one a step of a round's training."""
MOST_LINES = MAX_STYLE
"""One chart has as many lines as can be told apart."""
WEIGHTS = (0.0, 0.6, 0.9, 0.97)
"""These are the weights of the past when a line is smoothed."""


@dataclass(frozen=True)
class MetricsQuery:
    """`kind` is None until a person chose one.

    By step, `num_overlaid` rounds up to `newest` are laid over each other; up to the last that
    trains or has trained where that is None.
    """

    kind: Kind | None = None
    term: SearchTerm | None = None
    newest: int | None = None
    num_overlaid: int = 1
    weight: float = 0.0


@dataclass(frozen=True, eq=False)
class MetricLine:
    """This is one metric of one run over its rounds, or over the steps of its `round`.

    `xs` ascend; NaN is a gap. Where one point stands for several steps, `lows` and `highs` are
    their extremes, and `events` is the file that has them all.
    """

    run: str
    round: int | None
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] | None = None
    highs: Sequence[float] | None = None
    events: Path | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """Holds all lines of one metric, in the order of the runs, and the same ready to be drawn."""

    name: str
    lines: tuple[MetricLine, ...]
    series: tuple[Series, ...] = ()


@dataclass(frozen=True, eq=False)
class MetricsView:
    """`charts` fit the term; `num_charts` counts them without it.

    `num_others` counts the charts of the other kind that fit. `rounds` are those laid over each
    other, oldest first; `last` is the newest there is.
    """

    query: MetricsQuery = field(default_factory=MetricsQuery)
    kind: Kind = "round"
    runs: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    num_charts: int = 0
    num_others: int = 0
    rounds: tuple[int, ...] = ()
    last: int = 0

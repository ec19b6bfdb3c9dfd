"""Reads the metrics of one run or several, in the feed's thread: files in, a `MetricsView` out.

The lines of a chart become series to draw: named apart, each with a style of its own, smoothed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from halos_backend.store.run_dir import RunDir

from halos_tui.charts.series import Series, smoothed
from halos_tui.metrics.sources import RunMetrics
from halos_tui.metrics.view import MOST_LINES, Chart, Kind, MetricLine, MetricsQuery, MetricsView

FIRST = (
    "label.reward_mean",
    "train.kl_initial",
    "sample.length_mean",
    "sample.truncated_frac",
    "label.num_pairs_kept",
    "loss",
    "implicit_reward_margin",
    "implicit_reward_accuracy",
    "grad_norm",
    "lr",
)

FAINT = 0
"""This is the style of what lies behind a smoothed line."""


class MetricsReader:
    """Reads for the metrics screen. `ask` and `pin` may be called from another thread than
    `read`.
    """

    def __init__(self, run_dirs: Sequence[RunDir], query: MetricsQuery) -> None:
        self._wanted = tuple(run_dirs)
        self._query = query
        self._runs: dict[RunDir, RunMetrics] = {}
        self._view: MetricsView | None = None

    def ask(self, query: MetricsQuery) -> None:
        """Sets what the next view is about."""
        self._query = query

    def pin(self, run_dirs: Sequence[RunDir]) -> None:
        """Sets the runs to show, from the next view on."""
        self._wanted = tuple(run_dirs)

    def read(self) -> MetricsView | None:
        """Returns the view, or None where it is the same as before.

        Raises HalosError for a run that is no longer there, or whose journal cannot be read, and
        UsageError for a pattern that takes too long.
        """
        query, wanted = self._query, self._wanted
        before = self._view
        is_new = before is None or before.query != query or [*self._runs] != [*wanted]
        self._runs = {run_dir: self._runs.get(run_dir) or RunMetrics(run_dir) for run_dir in wanted}
        for run in self._runs.values():
            is_new |= run.read()
        rounds = self._rounds(query)
        for run in self._runs.values():
            is_new |= run.show(rounds)
        if not is_new:
            return None
        self._view = self._make(query, rounds)
        return self._view

    def _rounds(self, query: MetricsQuery) -> tuple[int, ...]:
        """Returns the overlaid rounds, no more than can be told apart with so many runs."""
        last = max((run.newest_trained for run in self._runs.values()), default=0)
        newest = last if query.newest is None else max(1, min(query.newest, last))
        num = max(1, min(query.num_overlaid, MOST_LINES // max(1, len(self._runs))))
        return tuple(range(max(1, newest - num + 1), newest + 1))

    def _make(self, query: MetricsQuery, rounds: tuple[int, ...]) -> MetricsView:
        by_round, by_step = self._round_charts(), self._step_charts()
        kind: Kind = query.kind or ("step" if self._last() < 2 else "round")
        charts, others = (by_round, by_step) if kind == "round" else (by_step, by_round)
        return MetricsView(
            query=query,
            kind=kind,
            runs=tuple(run_dir.name for run_dir in self._runs),
            charts=tuple(drawable(chart, query.weight) for chart in _fitting(charts, query)),
            num_charts=len(charts),
            num_others=len(_fitting(others, query)),
            rounds=rounds,
            last=self._last(),
        )

    def _last(self) -> int:
        return max((run.num_rounds for run in self._runs.values()), default=0)

    def _round_charts(self) -> list[Chart]:
        runs = self._runs.values()
        names = _in_order(run.figures.names for run in runs)
        found = (
            Chart(name, tuple(_known(run.figures.line(run.run_dir.name, name) for run in runs)))
            for name in names
        )
        return [chart for chart in found if chart.lines]

    def _step_charts(self) -> list[Chart]:
        runs = self._runs.values()
        names = _in_order(run.step_names for run in runs)
        return [
            Chart(name, tuple(line for run in runs for line in run.step_lines(name)))
            for name in names
        ]


def _in_order(names: Iterable[Iterable[str]]) -> list[str]:
    """Returns each name once: what a person looks at first, then as they come."""
    known = [*dict.fromkeys(name for some in names for name in some)]
    return [*(name for name in FIRST if name in known), *(n for n in known if n not in FIRST)]


def _known(lines: Iterable[MetricLine | None]) -> Iterable[MetricLine]:
    return (line for line in lines if line is not None)


def _fitting(charts: Sequence[Chart], query: MetricsQuery) -> list[Chart]:
    term = query.term
    return [chart for chart in charts if term is None or term.is_in(chart.name)]


def drawable(chart: Chart, weight: float) -> Chart:
    """Returns the chart with its series; `weight` is that of the past, 0 where nothing is
    smoothed.
    """
    names = line_names(chart)
    series: list[Series] = []
    for index, (line, name) in enumerate(zip(chart.lines, names, strict=True), start=1):
        if not weight:
            series.append(Series(name, line.xs, line.ys, line.lows, line.highs, index))
            continue
        if len(names) == 1:
            series.append(Series(name, line.xs, line.ys, style_index=FAINT))
        series.append(Series(name, line.xs, smoothed(line.ys, weight), style_index=index))
    return replace(chart, series=tuple(series))


def line_names(chart: Chart) -> list[str]:
    """Names what tells the lines apart: the run, the round, or both; a single line has the chart's
    name.
    """
    if len(chart.lines) == 1:
        return [chart.name]
    has_runs = len({line.run for line in chart.lines}) > 1
    has_rounds = _num_rounds(chart.lines) > 1
    return [_name(line, has_runs=has_runs, has_rounds=has_rounds) for line in chart.lines]


def _num_rounds(lines: Sequence[MetricLine]) -> int:
    return len({line.round for line in lines})


def _name(line: MetricLine, *, has_runs: bool, has_rounds: bool) -> str:
    round = f"r{line.round}" if has_rounds else ""
    return " ".join(part for part in (line.run if has_runs else "", round) if part)

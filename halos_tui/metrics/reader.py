"""Reads the metrics of one run or several, in the feed's thread: files in, a `MetricsView` out.

The lines of a chart become series to draw: named apart, each with a style of its own, smoothed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import replace

from halos_backend.store.run_dir import RunDir

from halos_tui.charts.series import Series, extremes, smoothed
from halos_tui.formatting import denomination
from halos_tui.metrics.first_page import first_names, first_page, in_order
from halos_tui.metrics.sources import RunMetrics
from halos_tui.metrics.view import (
    MOST_LINES,
    Chart,
    Kind,
    LineKey,
    MetricLine,
    MetricsQuery,
    MetricsView,
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
        names = first_names(run.loss for run in self._runs.values())
        by_round, by_step = self._round_charts(), self._step_charts()
        kind: Kind = query.kind or ("step" if self._last() < 2 else "round")
        charts, others = (by_round, by_step) if kind == "round" else (by_step, by_round)
        chosen, num_constant = _chosen(in_order(charts, names), query, names)
        keys = self._keys(charts)
        return MetricsView(
            query=query,
            kind=kind,
            keys=keys,
            charts=tuple(drawable(chart, keys, query.weight) for chart in chosen),
            num_charts=len(charts),
            num_constant=num_constant,
            num_others=len(_chosen(others, query, names)[0]),
            rounds=rounds,
            last=self._last(),
        )

    def _keys(self, charts: Sequence[Chart]) -> tuple[LineKey, ...]:
        """Returns the keys of all lines, in the order of the runs and of their rounds."""
        places = {run_dir.name: place for place, run_dir in enumerate(self._runs)}
        found = {(line.run, line.round) for chart in charts for line in chart.lines}
        return tuple(sorted(found, key=lambda key: (places[key[0]], key[1] or 0)))

    def _last(self) -> int:
        return max((run.num_rounds for run in self._runs.values()), default=0)

    def _round_charts(self) -> list[Chart]:
        runs = self._runs.values()
        names = _each_once(run.figures.names for run in runs)
        found = (
            Chart(name, tuple(_known(run.figures.line(run.run_dir.name, name) for run in runs)))
            for name in names
        )
        return [chart for chart in found if chart.lines]

    def _step_charts(self) -> list[Chart]:
        runs = self._runs.values()
        names = _each_once(run.step_names for run in runs)
        return [
            Chart(name, tuple(line for run in runs for line in run.step_lines(name)))
            for name in names
        ]


def _each_once(names: Iterable[Iterable[str]]) -> list[str]:
    return [*dict.fromkeys(name for some in names for name in some)]


def _known(lines: Iterable[MetricLine | None]) -> Iterable[MetricLine]:
    return (line for line in lines if line is not None)


def _chosen(
    charts: Sequence[Chart], query: MetricsQuery, names: Sequence[str]
) -> tuple[list[Chart], int]:
    """Returns what is asked for, and how many constant charts that leaves out."""
    if query.term is None and not query.is_whole:
        return first_page(charts, names)
    term = query.term
    return [chart for chart in charts if term is None or term.is_in(chart.name)], 0


def drawable(chart: Chart, keys: Sequence[LineKey], weight: float) -> Chart:
    """Returns the chart with its series; `weight` is that of the past, 0 where nothing is
    smoothed.
    """
    names = dict(zip(keys, key_names(keys), strict=True))
    factor, unit = _denomination(chart)
    series: list[Series] = []
    for line in chart.lines:
        key = (line.run, line.round)
        name, style = names[key] or chart.name, keys.index(key) + 1
        ys = _times(line.ys, factor)
        if not weight:
            lows, highs = (one and _times(one, factor) for one in (line.lows, line.highs))
            series.append(Series(name, line.xs, ys, lows, highs, style))
            continue
        if len(chart.lines) == 1:
            series.append(Series(name, line.xs, ys, style_index=FAINT))
        series.append(Series(name, line.xs, smoothed(ys, weight), style_index=style))
    return replace(chart, series=tuple(series), unit=unit)


def key_names(keys: Sequence[LineKey]) -> list[str]:
    """Names what tells lines apart: the run, the round, or both; nothing where there is one."""
    has_runs = len({run for run, _ in keys}) > 1
    has_rounds = len({round for _, round in keys}) > 1
    return [
        " ".join(
            part for part in (run if has_runs else "", f"r{round}" if has_rounds else "") if part
        )
        for run, round in keys
    ]


def _denomination(chart: Chart) -> tuple[float, str]:
    """Returns what values are multiplied by to be drawn, and the unit that stands behind them."""
    units = {line.unit for line in chart.lines}
    ends = [abs(end) for line in chart.lines for end in extremes(line.ys) or ()]
    return denomination(units.pop(), max(ends, default=0.0)) if len(units) == 1 else (1.0, "")


def _times(values: Sequence[float], factor: float) -> Sequence[float]:
    return values if factor == 1 else array("d", (factor * value for value in values))

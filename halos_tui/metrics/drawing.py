"""Lines of a chart as series to draw: named apart, each with a style of its own, smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from halos_tui.metrics.view import Chart, Line
from halos_tui.widgets.series import Series, smoothed

FAINT = 0
"""The style of what lies behind a smoothed line."""


def drawable(chart: Chart, weight: float) -> Chart:
    """With its series; `weight` is that of the past, 0 where nothing is smoothed."""
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
    """What tells the lines apart: the run, the round, or both; of one alone the chart's name."""
    if len(chart.lines) == 1:
        return [chart.name]
    has_runs = len({line.run for line in chart.lines}) > 1
    has_rounds = _num_rounds(chart.lines) > 1
    return [_name(line, has_runs=has_runs, has_rounds=has_rounds) for line in chart.lines]


def _num_rounds(lines: Sequence[Line]) -> int:
    return len({line.round for line in lines})


def _name(line: Line, *, has_runs: bool, has_rounds: bool) -> str:
    round = f"r{line.round}" if has_rounds else ""
    return " ".join(part for part in (line.run if has_runs else "", round) if part)

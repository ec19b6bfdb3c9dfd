"""Writes what the metrics screen shows: as CSV with every value, as SVG with every chart.

Where a point stands for several steps, the files have every step as it was logged.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from halos_backend.events import MetricsLogged
from halos_backend.store.reader import attempt_journal

from halos_tui.charts.axis import Axis, linear_axis, log_axis
from halos_tui.charts.frame import told_apart
from halos_tui.charts.series import Series, extremes
from halos_tui.formatting import number, visible
from halos_tui.metrics.view import Chart, MetricLine, MetricsView

HEADER = ("run", "round", "step", "metric", "value")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The palette of Okabe and Ito can be told apart with any colour vision; dashes do it without
colour."""
DASHES = ("", "6 3", "2 2", "8 3 2 3", "10 4", "4 2 1 2")
FAINT = "#bbbbbb"
WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 31, 28
ROW = 15
"""A row of the legend has so many pixels."""
CHARACTER = 6
LONGEST_NAME = 56
Place = tuple[float, float]
"""A place in a chart is in pixels from its top left corner."""
MOST_BESIDE = 2

BLOCK_BYTES = 1 << 20

Points = dict[float, float]
"""It holds values by step; of a step that was done again the later one."""


def as_csv(view: MetricsView) -> str:
    """Writes a row for each value of each line that is shown; unsmoothed, gaps left out.

    Reads the events of rounds with more steps than are drawn. Raises CorruptFileError.
    """
    every_step = EveryStep(view.charts)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEADER)
    for chart in view.charts:
        for line in chart.lines:
            for x, y in every_step.of(chart, line):
                if math.isfinite(y):
                    is_round = line.round is None
                    round, step = (int(x), "") if is_round else (line.round, int(x))
                    writer.writerow((line.run, round, step, chart.name, repr(float(y))))
    return out.getvalue()


def as_svg(
    view: MetricsView, *, window: tuple[float | None, float | None] = (None, None), is_log: bool
) -> str:
    """Draws all charts that fit the filter, two beside each other, as they are drawn on the
    screen.
    """
    columns = min(MOST_BESIDE, max(1, len(view.charts)))
    num_rows = -(-len(view.charts) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{columns * WIDTH}"'
        f' height="{max(1, num_rows) * HEIGHT}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, chart in enumerate(view.charts):
        x, y = WIDTH * (place % columns), HEIGHT * (place // columns)
        parts.append(f'<g transform="translate({x},{y})">')
        parts += _chart(chart, view.kind, window, is_log=is_log)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _chart(
    chart: Chart, kind: str, window: tuple[float | None, float | None], *, is_log: bool
) -> Iterator[str]:
    unit = f" in {chart.unit.strip()}" if chart.unit else ""
    yield f'<text x="{LEFT}" y="16" font-weight="bold">{_text(chart.name)}{unit}, by {kind}</text>'
    legend = _legend(chart.series)
    yield from (text for row in legend for text in row)
    x_axis = _x_axis(chart.series, window)
    y_axis = x_axis and _y_axis(chart.series, x_axis, is_log=is_log)
    if x_axis is None or y_axis is None:
        yield f'<text x="{WIDTH // 2}" y="{HEIGHT // 2}" text-anchor="middle">no values</text>'
        return
    plot = Plot(x_axis, y_axis, TOP + ROW * len(legend))
    yield from _axes(plot)
    for series in chart.series:
        yield from _band(series, plot)
    for series in chart.series:
        yield from _line(series, plot)


@dataclass(frozen=True)
class Plot:
    """Knows where a chart's values lie in it; `top` is where the legend ends, in pixels."""

    x_axis: Axis
    y_axis: Axis
    top: int

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Returns the place of a point; NaN for what has no place."""
        return self.across(x), self.down(y)

    def across(self, x: float) -> float:
        return LEFT + self.x_axis.scale.share(x) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        bottom = HEIGHT - BOTTOM
        return bottom - self.y_axis.scale.share(y) * (bottom - self.top)

    def has(self, x: float) -> bool:
        return self.x_axis.scale.low <= x <= self.x_axis.scale.high


def _legend(series: Sequence[Series]) -> list[list[str]]:
    """Returns the rows of the legend; none where there is one line."""
    named = [one for one in series if one.style_index]
    rows: list[list[str]] = []
    x = WIDTH
    names = told_apart(tuple(visible(one.name) for one in named), LONGEST_NAME)
    for one, name in zip(named, names, strict=True) if len(named) > 1 else []:
        width = 32 + CHARACTER * len(name)
        if x + width > WIDTH:
            rows.append([])
            x = LEFT
        y = TOP + ROW * (len(rows) - 1)
        rows[-1].append(f'<path d="M{x} {y - 4}h16" {_stroke(one)}/>')
        rows[-1].append(f'<text x="{x + 20}" y="{y}">{escape(name)}</text>')
        x += width
    return rows


def _x_axis(series: Sequence[Series], window: tuple[float | None, float | None]) -> Axis | None:
    ends = [x for one in series if len(one.xs) for x in (one.xs[0], one.xs[-1])]
    if not ends:
        return None
    low = min(ends) if window[0] is None else window[0]
    high = max(ends) if window[1] is None else window[1]
    return linear_axis(low, max(low, high), num_ticks=6, is_whole=True, fixed=(True, True))


def _y_axis(series: Sequence[Series], x_axis: Axis, *, is_log: bool) -> Axis | None:
    scale = x_axis.scale
    values = [
        value
        for one in series
        for column in (one.ys, one.low, one.high)
        for x, value in zip(one.xs, column or (), strict=False)
        if scale.low <= x <= scale.high and math.isfinite(value) and (value > 0 or not is_log)
    ]
    ends = extremes(values)
    if ends is None:
        return None
    return (log_axis if is_log else linear_axis)(*ends, num_ticks=6)


def _axes(plot: Plot) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    x_axis, y_axis = plot.x_axis, plot.y_axis
    for tick, label in zip(y_axis.ticks, y_axis.labels(), strict=True):
        y = plot.down(tick)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(label)}</text>'
    for tick, label in zip(x_axis.ticks, x_axis.labels(number), strict=True):
        x = plot.across(tick)
        yield f'<path d="M{x:.1f} {bottom}v4" stroke="#444"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_text(label)}</text>'
    yield f'<path d="M{LEFT} {plot.top}V{bottom}H{right}" fill="none" stroke="#444"/>'


def _band(series: Series, plot: Plot) -> Iterator[str]:
    """Draws the spread around a line, a shape for each stretch without a gap."""
    if series.low is None or series.high is None:
        return
    pairs: list[tuple[Place, Place]] = []
    gap = (math.nan, math.nan, math.nan)
    for x, low, high in [*zip(series.xs, series.low, series.high, strict=True), gap]:
        below, above = plot.place(x, low), plot.place(x, high)
        if plot.has(x) and math.isfinite(sum(below) + sum(above)):
            pairs.append((below, above))
            continue
        if len(pairs) > 1:
            path = _path([*(top for _, top in pairs), *(foot for foot, _ in reversed(pairs))])
            yield f'<path d="{path}Z" fill="{_colour(series)}" fill-opacity="0.15"/>'
        pairs = []


def _line(series: Series, plot: Plot) -> Iterator[str]:
    """Draws one path for each stretch without a gap; a point alone is a dot."""
    for points in _stretches(zip(series.xs, series.ys, strict=True), plot):
        if len(points) == 1:
            ((x, y),) = points
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_colour(series)}"/>'
        else:
            yield f'<path d="{_path(points)}" {_stroke(series)}/>'


def _stretches(points: Iterable[tuple[float, float]], plot: Plot) -> Iterator[list[Place]]:
    """Yields neighbours that have a place, in pixels."""
    stretch: list[Place] = []
    for x, y in points:
        place = plot.place(x, y)
        if plot.has(x) and math.isfinite(sum(place)):
            stretch.append(place)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _path(points: Sequence[Place]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _colour(series: Series) -> str:
    return COLOURS[(series.style_index - 1) % len(COLOURS)] if series.style_index else FAINT


def _stroke(series: Series) -> str:
    dash = DASHES[(series.style_index - 1) % len(DASHES)] if series.style_index else ""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{_colour(series)}" stroke-width="1.5"{dashes}'


def _text(text: str) -> str:
    return escape(visible(text))


class EveryStep:
    """Reads each file once, for all metrics in `charts`. Raises CorruptFileError."""

    def __init__(self, charts: Iterable[Chart]) -> None:
        wanted: dict[Path, dict[str, Points]] = {}
        for chart in charts:
            for line in chart.lines:
                if line.events is not None:
                    wanted.setdefault(line.events, {})[chart.name] = {}
        for path, points in wanted.items():
            _read(path, points)
        self._points = wanted

    def of(self, chart: Chart, line: MetricLine) -> Iterator[tuple[float, float]]:
        """Yields x and y with x ascending."""
        if line.events is None:
            return zip(line.xs, line.ys, strict=True)
        return iter(sorted(self._points[line.events][chart.name].items()))


def _read(path: Path, points: dict[str, Points]) -> None:
    journal = attempt_journal(path, max_bytes=BLOCK_BYTES)
    while events := journal.read():
        for event in events:
            if isinstance(event, MetricsLogged):
                for name in points.keys() & event.metrics.keys():
                    points[name][event.step] = event.metrics[name]

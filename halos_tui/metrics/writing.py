"""What the metrics screen shows, taken out: as CSV with every value, as SVG with every chart."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from halos_tui.formatting import number, visible
from halos_tui.metrics.view import Chart, MetricsView
from halos_tui.widgets.axis import Axis, linear_axis, log_axis
from halos_tui.widgets.series import Series, extremes

HEADER = ("run", "round", "step", "metric", "value")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito, told apart with any colour vision; dashes tell the lines apart without."""
DASHES = ("", "6 3", "2 2", "8 3 2 3", "10 4", "4 2 1 2")
FAINT = "#bbbbbb"
WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 40, 28
MOST_BESIDE = 2


def as_csv(view: MetricsView) -> str:
    """A row for each value of each line that is shown; unsmoothed, gaps left out."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEADER)
    for chart in view.charts:
        for line in chart.lines:
            for x, y in zip(line.xs, line.ys, strict=True):
                if math.isfinite(y):
                    is_round = line.round is None
                    round, step = (int(x), "") if is_round else (line.round, f"{x:g}")
                    writer.writerow((line.run, round, step, chart.name, repr(float(y))))
    return out.getvalue()


def as_svg(
    view: MetricsView, *, window: tuple[float | None, float | None] = (None, None), is_log: bool
) -> str:
    """All charts that fit the filter, two beside each other, as they are drawn on the screen."""
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
    yield f'<text x="{LEFT}" y="16" font-weight="bold">{_text(chart.name)}, by {kind}</text>'
    yield from _legend(chart.series)
    x_axis = _x_axis(chart.series, window)
    y_axis = x_axis and _y_axis(chart.series, x_axis, is_log=is_log)
    if x_axis is None or y_axis is None:
        yield f'<text x="{WIDTH // 2}" y="{HEIGHT // 2}" text-anchor="middle">no values</text>'
        return
    yield from _axes(x_axis, y_axis)
    for series in chart.series:
        yield from _line(series, x_axis, y_axis)


def _legend(series: Sequence[Series]) -> Iterator[str]:
    named = [one for one in series if one.style_index]
    x = LEFT
    for one in named if len(named) > 1 else []:
        yield f'<path d="M{x} 27h16" {_stroke(one)}/>'
        yield f'<text x="{x + 20}" y="31">{_text(one.name)}</text>'
        x += 32 + 6 * len(visible(one.name))


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


def _axes(x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>'
    for tick, label in zip(x_axis.ticks, x_axis.labels(number), strict=True):
        x, _ = _place(tick, None, x_axis, y_axis)
        yield f'<path d="M{x:.1f} {bottom}v4" stroke="#444"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_text(label)}</text>'
    for tick, label in zip(y_axis.ticks, y_axis.labels(), strict=True):
        _, y = _place(None, tick, x_axis, y_axis)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(label)}</text>'


def _line(series: Series, x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    """One path for each stretch without a gap; a point alone is a dot."""
    low, high = x_axis.scale.low, x_axis.scale.high
    stretch: list[tuple[float, float]] = []
    for x, y in [*zip(series.xs, series.ys, strict=True), (math.nan, math.nan)]:
        place = _place(x, y, x_axis, y_axis)
        if low <= x <= high and math.isfinite(sum(place)):
            stretch.append(place)
        elif stretch:
            yield _stretch(stretch, series)
            stretch = []


def _stretch(points: Sequence[tuple[float, float]], series: Series) -> str:
    if len(points) == 1:
        ((x, y),) = points
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_colour(series)}"/>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{path}" {_stroke(series)}/>'


def _place(x: float | None, y: float | None, x_axis: Axis, y_axis: Axis) -> tuple[float, float]:
    """In the chart, in pixels; NaN for what has no place."""
    across = 0.0 if x is None else x_axis.scale.share(x)
    up = 0.0 if y is None else y_axis.scale.share(y)
    return (
        LEFT + across * (WIDTH - LEFT - RIGHT),
        HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
    )


def _colour(series: Series) -> str:
    return COLOURS[(series.style_index - 1) % len(COLOURS)] if series.style_index else FAINT


def _stroke(series: Series) -> str:
    dash = DASHES[(series.style_index - 1) % len(DASHES)] if series.style_index else ""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{_colour(series)}" stroke-width="1.5"{dashes}'


def _text(text: str) -> str:
    return escape(visible(text))

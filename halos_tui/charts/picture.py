"""Draws a line chart into cells; pure. `ChartLook` says what is shown, `Series` are the data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from halos_tui.charts.axis import Axis, linear_axis, log_axis
from halos_tui.charts.frame import Frame, LegendEntry, draw_axes, draw_header
from halos_tui.charts.series import Point, Series, extremes, index_at, thinned
from halos_tui.formatting import ABSENT, MOST_PLACES, are_whole, look_of, magnitude, number
from halos_tui.widgets.canvas import ASCII, BRAILLE, Canvas, Row

MARKERS = "●◆▲■×+"
ASCII_MARKERS = "o*^#x+"
MARKER_SPACING = 12
"""So many cells are between the markers of a long line."""
CROWDED = 3
"""From so many lines on each is drawn in less detail, which costs more than it shows."""
Y_PARTS = 5
"""The y axis may end at any fifth between two ticks."""
SHORT = 20
SHORT_PARTS, LONG_PARTS = 10, 2
"""The x axis may end at any tenth where it is short, so that it is no longer than its few points,
else in the middle between two ticks, so that it stays while points come in."""

Bound = float | None
Thin = Callable[..., Series]


@dataclass(frozen=True)
class ChartLook:
    """Says what of the data is shown, and how. A bound that is None comes from the data.

    `window` bounds x, `y_range` bounds y; `cursor` is an x whose values are read. Labels are
    numbers unless `format_x` or `format_y` writes them; `unit` stands behind values of y.
    """

    title: str = ""
    is_ascii: bool = False
    is_log: bool = False
    window: tuple[Bound, Bound] = (None, None)
    y_range: tuple[Bound, Bound] = (None, None)
    cursor: float | None = None
    format_x: Callable[[float], str] | None = None
    format_y: Callable[[float], str] | None = None
    unit: str = ""


@dataclass(frozen=True)
class Reading:
    """This is a series' point at or before the cursor, or its last one; None before the first."""

    series: Series
    x: float | None
    y: float | None


@dataclass(frozen=True)
class ChartPicture:
    """Holds rows of cells, and where the plot with its axes lies in them; without data it has no
    axes.
    """

    rows: list[Row]
    frame: Frame
    x_axis: Axis | None = None
    y_axis: Axis | None = None

    def x_at(self, column: int) -> float | None:
        """Returns the x of a column of the widget; None outside of the plot."""
        place = column - self.frame.left
        if self.x_axis is None or not 0 <= place < self.frame.plot_width:
            return None
        return self.x_axis.scale.value(place / max(1, self.frame.plot_width - 1))


def draw_chart(
    series: Sequence[Series],
    look: ChartLook,
    width: int,
    height: int,
    *,
    thin: Thin = thinned,
    has_title: bool = True,
) -> ChartPicture:
    """Draws the chart in `width` by `height` cells. `thin` may be a `thinned` with a memory.

    Without `has_title` the title and a legend of one entry stand elsewhere: see `caption`.
    """
    whole = Canvas(width, height, ASCII if look.is_ascii else BRAILLE)
    x_axis = _x_axis(series, look, num_ticks=max(2, width // 10))
    shown: list[Series] = []
    if x_axis is not None:
        low, high = x_axis.scale.low, x_axis.scale.high
        num_buckets = width * (2 if len(series) < CROWDED else 1)
        shown = [thin(one, low=low, high=high, num_buckets=num_buckets) for one in series]
    num_named = len(named(series))
    frame = Frame.of(width, height, num_named=num_named, has_title=has_title)
    y_axis = _y_axis(shown, look, x_axis, num_ticks=max(2, frame.plot_height // 2 + 1))
    readings = [read_off(one, look.cursor) for one in named(series)]
    write = look.format_y or _writer(named(shown), look.unit)
    legend = _legend(readings, write, look)
    draw_header(whole, frame, look.title, legend, _cursor_label(look))
    if x_axis is None or y_axis is None:
        note = "no value above 0 yet" if x_axis and look.is_log else "no values yet"
        whole.write(max(0, (width - len(note)) // 2), height // 2, note[:width], "muted")
        return ChartPicture(whole.rows(), frame)
    unit = "" if look.unit.startswith(" ") else look.unit
    frame = frame.with_labels([f"{label}{unit}" for label in y_axis.labels(look.format_y)])
    x_labels = x_axis.labels(look.format_x)
    draw_axes(whole, frame, x_axis, y_axis, x_labels=x_labels, is_ascii=look.is_ascii)
    plot = Canvas(frame.plot_width, frame.plot_height, whole.raster)
    _draw_plot(plot, shown, look, x_axis, y_axis)
    return ChartPicture(_with_plot(whole.rows(), plot.rows(), frame), frame, x_axis, y_axis)


def caption(series: Sequence[Series], look: ChartLook) -> list[tuple[str, str]]:
    """Returns title, value of a single series and cursor as texts with their styles."""
    readings = [read_off(one, look.cursor) for one in named(series)]
    parts = [(look.title, "title")]
    if len(readings) == 1:
        write = look.format_y or _writer(named(series), look.unit)
        _, name, value, style = _legend(readings, write, look)[0]
        parts += [(f"  {name}" if name else "", style), (f"  {value}", "value")]
    return [*parts, (f"  {_cursor_label(look)}".rstrip(), "cursor")]


def _with_plot(rows: list[Row], plot: list[Row], frame: Frame) -> list[Row]:
    inner = [
        row[: frame.left] + dots
        for row, dots in zip(rows[frame.top : frame.top + len(plot)], plot, strict=True)
    ]
    return rows[: frame.top] + inner + rows[frame.top + len(plot) :]


def named(series: Sequence[Series]) -> list[Series]:
    """Returns the series that are in the legend."""
    return [one for one in series if one.style_index > 0]


def read_off(series: Series, cursor: float | None) -> Reading:
    """Reads a series at the cursor, or at its last point that has a value where there is none."""
    index = _last_known(series) if cursor is None else index_at(series.xs, cursor)
    if index is None:
        return Reading(series, None, None)
    return Reading(series, series.xs[index], series.ys[index])


def _last_known(series: Series) -> int | None:
    places = range(len(series.ys) - 1, -1, -1)
    return next((place for place in places if math.isfinite(series.ys[place])), None)


def marker(series: Series, *, is_ascii: bool) -> str:
    glyphs = ASCII_MARKERS if is_ascii else MARKERS
    return glyphs[(series.style_index - 1) % len(glyphs)] if series.style_index else ""


def _legend(
    readings: Sequence[Reading], write: Callable[[float], str], look: ChartLook
) -> list[LegendEntry]:
    """Returns the legend; a series that is the first and only one needs no marker, and no name that
    repeats the title.
    """
    is_only = len(readings) == 1 and readings[0].series.style_index == 1
    return [
        (
            "" if is_only else marker(reading.series, is_ascii=look.is_ascii),
            "" if is_only and reading.series.name == look.title else reading.series.name,
            ABSENT if reading.y is None or not math.isfinite(reading.y) else write(reading.y),
            reading.series.style,
        )
        for reading in readings
    ]


def _writer(shown: Sequence[Series], unit: str) -> Callable[[float], str]:
    """Returns what writes values alike: as exact as their usual figures are, and at most as the
    spread around them; where all are close to each other, two digits tell them apart.
    """
    values = [value for one in shown for value in one.ys if math.isfinite(value)]
    look = look_of(values)
    if look.places is not None and not are_whole(values):
        spreads = [spread for one in shown for spread in _spreads(one)]
        places = 1 - magnitude(statistics.median(spreads)) if spreads else look.places
        apart = max(values) - min(values)
        least = 1 - magnitude(apart) if 0 < apart < math.inf else 0
        look = replace(look, places=min(MOST_PLACES, max(0, least, min(look.places, places))))
    return lambda value: look.write(value) + unit


def _spreads(series: Series) -> list[float]:
    """Returns half the width of the band at each point that has one."""
    pairs = zip(series.low or (), series.high or (), strict=True)
    return [(high - low) / 2 for low, high in pairs if 0 < high - low < math.inf]


def _cursor_label(look: ChartLook) -> str:
    return "" if look.cursor is None else f"at {(look.format_x or number)(look.cursor)}"


def _x_axis(series: Sequence[Series], look: ChartLook, *, num_ticks: int) -> Axis | None:
    low, high = look.window
    ends = [x for one in series if len(one.xs) for x in (one.xs[0], one.xs[-1])]
    known = [x for x in (*ends, low, high) if x is not None and math.isfinite(x)]
    if not ends or not known:
        return None
    first = min(known) if low is None else low
    last = max(known) if high is None else high
    return linear_axis(
        first,
        max(first, last),
        num_ticks=num_ticks,
        is_whole=all(float(x).is_integer() for x in known),
        fixed=(True, high is not None),
        parts=SHORT_PARTS if last - first < SHORT else LONG_PARTS,
    )


def _y_axis(
    shown: Sequence[Series], look: ChartLook, x_axis: Axis | None, *, num_ticks: int
) -> Axis | None:
    if x_axis is None:
        return None
    low, high = x_axis.scale.low, x_axis.scale.high
    values = [
        value
        for one in shown
        for column in (one.ys, one.low, one.high)
        for x, value in zip(one.xs, column or (), strict=False)
        if low <= x <= high and math.isfinite(value) and (value > 0 or not look.is_log)
    ]
    ends = extremes(values)
    if ends is None:
        return None
    bounds = [
        bound if bound is not None and (bound > 0 or not look.is_log) else None
        for bound in look.y_range
    ]
    lowest = ends[0] if bounds[0] is None else bounds[0]
    highest = max(lowest, ends[1] if bounds[1] is None else bounds[1])
    fixed = (bounds[0] is not None, bounds[1] is not None)
    if look.is_log:
        return log_axis(lowest, highest, num_ticks=num_ticks, fixed=fixed)
    return linear_axis(lowest, highest, num_ticks=num_ticks, fixed=fixed, parts=Y_PARTS)


def _draw_plot(
    plot: Canvas, shown: Sequence[Series], look: ChartLook, x_axis: Axis, y_axis: Axis
) -> None:
    place = Placing(plot, x_axis, y_axis)
    for one in shown:
        _draw_band(plot, one, place)
    lines = [place.points(one.xs, one.ys) for one in shown]
    for one, points in zip(shown, lines, strict=True):
        plot.polyline(points, one.style)
    legend = [(one, points) for one, points in zip(shown, lines, strict=True) if one.style_index]
    for turn, (one, points) in enumerate(legend):
        due = None if len(legend) == 1 else turn * MARKER_SPACING // len(legend)
        _draw_markers(plot, points, marker(one, is_ascii=look.is_ascii), one.style, due=due)
    if look.cursor is not None:
        _draw_cursor(plot, named(shown), look, look.cursor, place)


@dataclass(frozen=True)
class Placing:
    """Maps data to dots of a plot."""

    plot: Canvas
    x_axis: Axis
    y_axis: Axis

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> list[Point]:
        right, bottom = self.plot.dots_wide - 1, self.plot.dots_high - 1
        return [
            (x * right, bottom - y * bottom)
            for x, y in zip(self.x_axis.scale.shares(xs), self.y_axis.scale.shares(ys), strict=True)
        ]


def _draw_band(plot: Canvas, series: Series, place: Placing) -> None:
    if series.low is None or series.high is None:
        return
    tops, bottoms = place.points(series.xs, series.high), place.points(series.xs, series.low)
    for index in range(len(tops) - 1):
        (x0, top0), (x1, top1) = tops[index : index + 2]
        bottom0, bottom1 = bottoms[index][1], bottoms[index + 1][1]
        if not math.isfinite(x0 + x1 + top0 + top1 + bottom0 + bottom1):
            continue
        for x in range(max(0, math.ceil(x0)), min(plot.dots_wide - 1, math.floor(x1)) + 1):
            share = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
            plot.shade(
                x, top0 + share * (top1 - top0), bottom0 + share * (bottom1 - bottom0), "band"
            )


def _draw_markers(
    plot: Canvas, points: Sequence[Point], glyph: str, style: str, *, due: int | None
) -> None:
    """Marks every point of a short line, some points of a long one, and each that stands alone.

    `due` is the column before which a long line has none; None for never.
    """
    is_short = len(points) * 4 <= plot.width
    for index, (x, y) in enumerate(points):
        if not math.isfinite(x + y):
            continue
        column, row = _cell(plot, x, y)
        if is_short or _is_alone(points, index) or (due is not None and column >= due):
            plot.write(column, row, glyph, style)
            due = None if due is None else column + MARKER_SPACING


def _is_alone(points: Sequence[Point], index: int) -> bool:
    around = [*points[max(0, index - 1) : index], *points[index + 1 : index + 2]]
    return not any(math.isfinite(x + y) for x, y in around)


def _draw_cursor(
    plot: Canvas, legend: Sequence[Series], look: ChartLook, cursor: float, place: Placing
) -> None:
    readings = [(one, read_off(one, cursor)) for one in legend]
    column, _ = _cell(plot, place.x_axis.scale.share(cursor) * (plot.dots_wide - 1), 0)
    if not 0 <= column < plot.width:
        return
    plot.vertical(column, "|" if look.is_ascii else "│", "cursor")
    for one, reading in readings:
        if reading.x is not None and reading.y is not None:
            ((x, y),) = place.points([reading.x], [reading.y])
            if math.isfinite(x + y):
                plot.write(*_cell(plot, x, y), marker(one, is_ascii=look.is_ascii), one.style)


def _cell(plot: Canvas, x: float, y: float) -> tuple[int, int]:
    """Returns the cell of a dot; its column is -1 where there is none."""
    if not math.isfinite(x + y):
        return -1, 0
    return math.floor(x + 0.5) // plot.raster.wide, math.floor(y + 0.5) // plot.raster.high

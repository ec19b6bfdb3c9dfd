"""This widget shows many charts, as large as fits; they share cursor, zoom and scale."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, NamedTuple

from halos_backend import clock
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region
from textual.message import Message

from halos_tui.charts.line_chart import LineChart
from halos_tui.charts.picture import ChartLook, ChartPicture, draw_chart
from halos_tui.metrics.view import Chart
from halos_tui.run.chart_panels import GAP, grid
from halos_tui.widgets.canvas import Row, Run
from halos_tui.widgets.panel import merged
from halos_tui.widgets.virtual_list import Moving

LEAST_WIDTH = 38
LEAP = 10
"""The cursor goes so many points at once."""
AT_ONCE_S = 0.015
"""Charts are drawn for so long before keys and clicks have their turn."""
Bounds = tuple[float, float]


class DrawnChart(NamedTuple):
    """Keeps a chart as it was drawn, and what it was drawn of."""

    about: tuple[Chart, ChartLook, int, int]
    picture: ChartPicture


class ChartGrid(LineChart, Moving, can_focus=True):
    """Charts that do not fit are scrolled to, a row at a time."""

    WHEEL_ROWS = 1
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move_cursor(-1)", show=False),
        Binding("right", "move_cursor(1)", show=False),
        Binding("shift+left", f"move_cursor(-{LEAP})", show=False),
        Binding("shift+right", f"move_cursor({LEAP})", show=False),
    ]

    class Turned(Message):
        """This message says that other charts are in sight."""

    class Chosen(Message):
        """This message says that a person wants to read what is at the cursor."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._charts: tuple[Chart, ...] = ()
        self._first = 0
        self._columns, self._rows_in_sight = 1, 1
        self._pictures: dict[str, DrawnChart] = {}
        self._places: list[tuple[Region, str]] = []
        self._note = ""
        self._drawn_until = 0.0
        self._has_drawn = self._is_behind = False

    def show(self, charts: tuple[Chart, ...]) -> None:
        self._charts = charts
        names = {chart.name for chart in charts}
        self._pictures = {name: kept for name, kept in self._pictures.items() if name in names}
        self._thinner.forget_but([series for chart in charts for series in chart.series])
        self.repaint()

    def note(self, text: str) -> bool:
        """Puts a quiet note behind the title in the border; returns False where there is none."""
        self._note = text
        self._write_caption()
        return self.is_framed and bool(self.styles.border_top[0])

    def caption(self, width: int) -> list[Run]:
        note = f"{' ' * GAP}{self._note}" if self._note else ""
        return [*super().caption(width), (note, "muted")]

    @property
    def shown(self) -> tuple[Chart, ...]:
        """Returns the charts in sight."""
        return self._charts[self._first : self._first + self._columns * self._rows_in_sight]

    @property
    def num_hidden(self) -> tuple[int, int]:
        """Counts the charts before and after those in sight."""
        return self._first, max(0, len(self._charts) - self._first - len(self.shown))

    def painting(self, width: int, height: int) -> list[Row]:
        before = (self._first, self._columns, self._rows_in_sight)
        self._columns, self._rows_in_sight = grid(
            width, height, max(1, len(self._charts)), least_width=LEAST_WIDTH
        )
        self._first = self._kept_in_range(self._first)
        if before != (self._first, self._columns, self._rows_in_sight):
            self.post_message(self.Turned())
        charts = self.shown
        if not charts:
            return draw_chart([], self.look, width, height).rows
        self._drawn_until = clock.monotonic() + AT_ONCE_S
        self._has_drawn = self._is_behind = False
        self._places = []
        rows: list[Row] = []
        num_rows = -(-len(charts) // self._columns)
        for start in range(0, len(charts), self._columns):
            bottom = (start // self._columns + 1) * height // num_rows
            beside = charts[start : start + self._columns]
            rows += self._beside(beside, width, len(rows), bottom)
        if self._is_behind:
            self.call_after_refresh(self.repaint)
        return rows

    def data_bounds(self) -> Bounds | None:
        """Returns the first x of all charts, and the last."""
        ends = [
            x
            for chart in self._charts
            for line in chart.lines
            if len(line.xs)
            for x in (line.xs[0], line.xs[-1])
        ]
        return (min(ends), max(ends)) if ends else None

    def zoom_by(self, factor: float) -> None:
        """Zooms around the cursor, or the middle; shows all once the window is no narrower than the
        data.
        """
        bounds = self.data_bounds()
        if bounds is None:
            return
        low, high = self._window(bounds)
        middle = (low + high) / 2 if self.look.cursor is None else self.look.cursor
        half = max((high - low) / factor, 1.0) / 2
        self._show_window(middle - half, middle + half, bounds)

    def action_move_cursor(self, by: int) -> None:
        """Moves to another point of the first chart in sight; the window goes along."""
        xs = self._points()
        bounds = self.data_bounds()
        if not xs or bounds is None:
            return
        cursor = self.look.cursor
        if cursor is None:
            place = len(xs) - 1
        elif by > 0:
            place = bisect_right(xs, cursor) - 1 + by
        else:
            place = bisect_left(xs, cursor) + by
        x = xs[max(0, min(place, len(xs) - 1))]
        low, high = self._window(bounds)
        self.configure(cursor=x)
        if not low <= x <= high:
            half = (high - low) / 2
            self._show_window(x - half, x + half, bounds)

    @property
    def num_rows(self) -> int:
        return len(self._charts)

    @property
    def page_rows(self) -> int:
        return self._rows_in_sight

    def action_move(self, by: int) -> None:
        """Scrolls by rows of charts."""
        self._turn_to(self._first + by * self._columns)

    def _turn_to(self, first: int) -> None:
        first = self._kept_in_range(first)
        if first != self._first:
            self._first = first
            self.repaint()
            self.post_message(self.Turned())

    def _kept_in_range(self, first: int) -> int:
        """Returns where a whole row begins, so that the last row stays at the bottom."""
        num_rows = -(-len(self._charts) // self._columns)
        last = max(0, num_rows - self._rows_in_sight) * self._columns
        return max(0, min(first // self._columns * self._columns, last))

    def _points(self) -> list[float]:
        """Returns where the cursor can stand."""
        charts = self.shown
        return sorted({x for line in charts[0].lines for x in line.xs}) if charts else []

    def _window(self, bounds: Bounds) -> Bounds:
        low, high = self.look.window
        return bounds[0] if low is None else low, bounds[1] if high is None else high

    def _show_window(self, low: float, high: float, bounds: Bounds) -> None:
        """Shows a window, moved to where there is data."""
        if high - low >= bounds[1] - bounds[0]:
            self.zoom()
            return
        shift = max(0.0, bounds[0] - low) - max(0.0, high - bounds[1])
        self.zoom(low + shift, high + shift)

    def _beside(self, charts: tuple[Chart, ...], width: int, top: int, bottom: int) -> list[Row]:
        inner = width - GAP * (self._columns - 1)
        starts = [index * inner // self._columns for index in range(len(charts) + 1)]
        widths = [end - start for start, end in pairwise(starts)]
        self._places += [
            (Region(start + index * GAP, top, cells, bottom - top), chart.name)
            for index, (chart, start, cells) in enumerate(zip(charts, starts, widths, strict=False))
        ]
        pictures = [
            self._rows_of(chart, cells, bottom - top)
            for chart, cells in zip(charts, widths, strict=True)
        ]
        return merged(pictures, widths, gap=GAP)

    def on_click(self, event: Click) -> None:
        """Puts the cursor at the nearest point; two clicks choose it."""
        for place, name in self._places:
            drawn = self._pictures.get(name)
            if drawn is None or not place.contains(event.x, event.y):
                continue
            x = drawn.picture.x_at(event.x - place.x)
            if x is not None and (xs := self._points()):
                self.configure(cursor=min(xs, key=lambda point: abs(point - x)))
                if event.chain == 2:
                    self.post_message(self.Chosen())

    def _rows_of(self, chart: Chart, width: int, height: int) -> list[Row]:
        """Draws a chart, or returns it as it was before where there is no time left for it now."""
        look = replace(self.look, title=chart.name, unit=chart.unit)
        about = (chart, look, width, height)
        before = self._pictures.get(chart.name)
        if before is not None and before.about == about:
            return before.picture.rows
        if self._has_drawn and clock.monotonic() > self._drawn_until:
            self._is_behind = True
            is_same_size = before is not None and before.about[2:] == (width, height)
            return before.picture.rows if before is not None and is_same_size else []
        picture = draw_chart(chart.series, look, width, height, thin=self._thinner)
        self._has_drawn = True
        self._pictures[chart.name] = DrawnChart(about, picture)
        return picture.rows

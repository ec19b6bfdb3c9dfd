"""This widget is a line chart: several series over one x axis, with cursor, zoom and log scale.

The data is plain: `Series` go in, and `LineChart.series` gives them back for an export. A series
with a million points is best `thinned` first, which a thread can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from halos_tui.charts.picture import (
    Bound,
    ChartLook,
    ChartPicture,
    Reading,
    caption,
    draw_chart,
    named,
    read_off,
)
from halos_tui.charts.series import Series, smoothed, thinned, with_gaps
from halos_tui.widgets.canvas import Row, Run
from halos_tui.widgets.painted import SERIES_COLOURS, Painted, series_css

__all__ = ["ChartLook", "LineChart", "Reading", "Series", "smoothed", "thinned", "with_gaps"]


class LineChart(Painted):
    """The chart draws when it is told to: `update`, `configure`, `zoom` and `move_cursor` repaint
    once.
    """

    PREFIX = "line-chart"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line-chart--title",
        "line-chart--value",
        "line-chart--muted",
        "line-chart--axis",
        "line-chart--band",
        "line-chart--cursor",
        "line-chart--series-0",
        *(f"line-chart--{name}" for name in SERIES_COLOURS),
    }
    DEFAULT_CSS = f"""
    LineChart {{
        .line-chart--title {{ text-style: bold; }}
        .line-chart--muted, .line-chart--axis, .line-chart--band {{ color: $text-muted; }}
        .line-chart--cursor {{ color: $text; text-style: bold; }}
        .line-chart--series-0 {{ color: $text-muted; }}
        {series_css("line-chart")}
    }}
    """

    def __init__(
        self,
        title: str = "",
        series: Sequence[Series] = (),
        *,
        look: ChartLook | None = None,
        is_ascii: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`title` and `is_ascii` are put into `look`, which has all the rest."""
        super().__init__(name=name, id=id, classes=classes)
        self._series = tuple(series)
        self._look = replace(look or ChartLook(), title=title, is_ascii=is_ascii)
        self._thinner = Thinner()
        self._picture: ChartPicture | None = None

    @property
    def series(self) -> tuple[Series, ...]:
        return self._series

    @property
    def look(self) -> ChartLook:
        return self._look

    def update(self, series: Sequence[Series]) -> None:
        """Shows these series instead."""
        self._series = tuple(series)
        self._thinner.forget_but(self._series)
        self.repaint()

    def configure(self, **changes: Any) -> None:
        """Changes fields of the `ChartLook`: `configure(is_log=True, y_range=(0, 1))`."""
        self._look = replace(self._look, **changes)
        self.repaint()

    def zoom(self, x_min: Bound = None, x_max: Bound = None) -> None:
        """Shows x between two bounds; where one is None, the data decides."""
        self.configure(window=(x_min, x_max))

    def move_cursor(self, x: float | None) -> None:
        """Reads all series at x; None takes the cursor away."""
        self.configure(cursor=x)

    def readings(self) -> list[Reading]:
        """Returns what stands in the legend: each series at the cursor, or its last point."""
        return [read_off(one, self._look.cursor) for one in named(self._series)]

    def x_bounds(self) -> tuple[float, float] | None:
        """Returns the bounds of x that are shown; None before anything is."""
        axis = self._picture and self._picture.x_axis
        return (axis.scale.low, axis.scale.high) if axis else None

    def x_at(self, column: int) -> float | None:
        """Returns the x under a column of the widget, for a click; None outside of the plot."""
        return self._picture.x_at(column) if self._picture else None

    def painting(self, width: int, height: int) -> list[Row]:
        self._picture = draw_chart(
            self._series,
            self._look,
            width,
            height,
            thin=self._thinner,
            has_title=not self.is_framed,
        )
        return self._picture.rows

    def caption(self, width: int) -> Sequence[Run]:
        """Returns the chart's own title and value, unless it was framed with another title."""
        return super().caption(width) or caption(self._series, self._look)


class Thinner:
    """Thins series and remembers what each gave last, so that a moving cursor is cheap."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Series, tuple[float, float, int], Series]] = {}

    def __call__(self, series: Series, *, low: float, high: float, num_buckets: int) -> Series:
        about = (low, high, num_buckets)
        seen = self._seen.get(id(series))
        if seen and seen[0] is series and seen[1] == about:
            return seen[2]
        thin = thinned(series, low=low, high=high, num_buckets=num_buckets)
        self._seen[id(series)] = (series, about, thin)
        return thin

    def forget_but(self, series: Sequence[Series]) -> None:
        """Forgets all other series, which are not shown any more."""
        kept = {id(one) for one in series}
        self._seen = {key: entry for key, entry in self._seen.items() if key in kept}

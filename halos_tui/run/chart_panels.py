"""These panels are charts: curves of training, rewards over rounds, and their spread in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.cells import set_cell_size

from halos_tui.charts.distribution import QUANTILES, Distribution
from halos_tui.charts.histogram import Histogram, draw_histogram
from halos_tui.charts.line_chart import ChartLook, LineChart, Series
from halos_tui.charts.picture import caption, draw_chart
from halos_tui.formatting import fixed, look_of
from halos_tui.run.view import CurvesView, CurveView, DistributionView, RewardView
from halos_tui.widgets.canvas import Row, Run
from halos_tui.widgets.panel import merged

LEAST_WIDTH = 30
LEAST_HEIGHT = 7
GAP = 2

MIN_HEIGHT_FOR_FIGURES = 8


class TrainCurves(LineChart):
    """All charts are one widget, so that what does not fit is left out and not squeezed."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__("train curves", is_ascii=is_ascii, id=id)
        self._shown = CurvesView()
        self._first = 0

    def show(self, shown: CurvesView) -> None:
        if shown is not self._shown:
            self._shown = shown
            self.repaint()

    def show_next(self) -> None:
        """Begins with the next curve."""
        if self._shown.curves:
            self._first = (self._first + 1) % len(self._shown.curves)
            self.repaint()

    def painting(self, width: int, height: int) -> list[Row]:
        curves = self._shown.curves
        if not curves:
            return draw_chart([], self.look, width, height, has_title=False).rows
        columns, num_rows = grid(width, height, len(curves))
        chosen = self._chosen()[: columns * num_rows]
        rows: list[Row] = []
        for start in range(0, len(chosen), columns):
            done = start // columns
            bottom = (done + 1) * height // num_rows
            rows += self._beside(
                chosen[start : start + columns], columns, width, bottom - len(rows)
            )
        return rows

    def _chosen(self) -> list[CurveView]:
        """Returns all curves, from the one that is to come first."""
        curves = self._shown.curves
        first = self._first % max(1, len(curves))
        return [*curves[first:], *curves[:first]]

    def _beside(self, curves: list[CurveView], columns: int, width: int, height: int) -> list[Row]:
        inner = width - GAP * (columns - 1)
        widths = [
            (index + 1) * inner // columns - index * inner // columns
            for index in range(len(curves))
        ]
        pictures = [
            self._chart(curve, cells, height) for curve, cells in zip(curves, widths, strict=True)
        ]
        return merged(pictures, widths, gap=GAP)

    @property
    def _is_single(self) -> bool:
        """Says whether there is one chart, whose title then stands in the border."""
        count = len(self._shown.curves)
        columns, num_rows = grid(*self.size, count) if count else (0, 0)
        return self.is_framed and min(count, columns * num_rows) == 1

    def caption(self, width: int) -> Sequence[Run]:
        """Names the chart where there is room for one only, else what all of them are about."""
        del width
        if self._is_single and self._shown.curves:
            return caption(*self._drawn(self._chosen()[0]))
        where = f"  round {self._shown.round}" if self._shown.curves else ""
        return [("training", "title"), (where, "muted")]

    def _chart(self, curve: CurveView, width: int, height: int) -> list[Row]:
        series, look = self._drawn(curve)
        return draw_chart(series, look, width, height, has_title=not self._is_single).rows

    def _drawn(self, curve: CurveView) -> tuple[list[Series], ChartLook]:
        """Returns the whole stage from its first step to its last, so that nothing moves as it
        grows.
        """
        is_first = curve is self._chosen()[0] and not curve.is_by_round
        where = f", round {self._shown.round}" if is_first and self._is_single else ""
        num_steps = 0 if curve.is_by_round else self._shown.num_steps
        title = f"{curve.title}{where}"
        look = ChartLook(
            title=title,
            is_ascii=self.look.is_ascii,
            window=(1, num_steps) if num_steps > 1 else (None, None),
        )
        return [Series(title, curve.xs, curve.ys, curve.lows, curve.highs)], look


def grid(width: int, height: int, count: int, *, least_width: int = LEAST_WIDTH) -> tuple[int, int]:
    """Returns columns and rows of charts that are still readable, with no more places than
    needed.
    """
    columns = max(1, min(count, (width + GAP) // (least_width + GAP)))
    num_rows = max(1, min(-(-count // columns), height // LEAST_HEIGHT))
    return -(-count // num_rows) if columns * num_rows > count else columns, num_rows


class RewardChart(LineChart):
    """It draws the mean reward by round, with one standard error around it."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__("reward before training", is_ascii=is_ascii, id=id)
        self._shown: RewardView | None = None

    def show(self, shown: RewardView) -> None:
        if shown is not self._shown:
            self._shown = shown
            series = Series("mean", shown.rounds, shown.means, shown.lows, shown.highs)
            self._look = replace(self._look, unit=shown.unit)
            self.update([series] if len(shown.rounds) else [])


class RewardDistribution(Histogram):
    """It draws a round's rewards against the first's, with quantiles in figures where there is
    room.
    """

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__("rewards", is_ascii=is_ascii, id=id)
        self._shown: DistributionView | None = None

    def show(self, shown: DistributionView | None) -> None:
        if shown is not self._shown:
            self._shown = shown
            self.update(*((shown.now, shown.first) if shown else (None, None)))

    def painting(self, width: int, height: int) -> list[Row]:
        shown = self._shown
        parts = [part for part in (shown.now, shown.first) if part] if shown else []
        values = [value for part in parts for value in part.quantiles.values()]
        look = look_of(values, most=2)
        figures = [_figures(part, width, look.places or 0) for part in parts]
        if height < MIN_HEIGHT_FOR_FIGURES + len(figures):
            figures = []
        now, first = (shown.now, shown.first) if shown else (None, None)
        picture = draw_histogram(
            now,
            first,
            width,
            height - len(figures),
            title=self._heading,
            has_title=not self.is_framed,
            is_ascii=self._is_ascii,
        )
        styles = ["now", "first"] if now else ["first"]
        return picture + [
            tuple((glyph, style) for glyph in text)
            for text, style in zip(figures, styles, strict=False)
        ]


def _figures(part: Distribution, width: int, places: int) -> str:
    """Writes as many quantiles as there is room for: `round 7  5% -6.90  25% ...`; ASCII."""
    known = [name for name in QUANTILES if name in part.quantiles]
    line = part.name
    for gap, kept in (("  ", places), (" ", places), (" ", min(1, places))):
        told = [f"{int(name[1:])}% {fixed(part.quantiles[name], kept)}" for name in known]
        line = gap.join((part.name, *told))
        if len(line) <= width:
            break
    else:
        while told and len(line) > width:
            told.pop()
            line = " ".join((part.name, *told))
    return set_cell_size(line, width)

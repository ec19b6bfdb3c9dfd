"""This panel shows train curves of one round: as many charts as fit, from a chosen one on."""

from __future__ import annotations

from halos_tui.charts.line_chart import ChartLook, LineChart, Series
from halos_tui.charts.picture import draw_chart
from halos_tui.run.view import CurvesView, CurveView
from halos_tui.widgets.canvas import Row
from halos_tui.widgets.panel import merged

LEAST_WIDTH = 30
LEAST_HEIGHT = 7
GAP = 2


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
            return draw_chart([], self.look, width, height).rows
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

    def _chart(self, curve: CurveView, width: int, height: int) -> list[Row]:
        """Draws the whole stage from its first step to its last, so that nothing moves as it
        grows.
        """
        is_first = curve is self._chosen()[0] and not curve.is_by_round
        where = f", round {self._shown.round}" if is_first else ""
        num_steps = 0 if curve.is_by_round else self._shown.num_steps
        title = f"{curve.title}{where}"
        look = ChartLook(
            title=title,
            is_ascii=self.look.is_ascii,
            window=(1, num_steps) if num_steps > 1 else (None, None),
        )
        series = Series(title, curve.xs, curve.ys, curve.lows, curve.highs)
        return draw_chart([series], look, width, height).rows


def grid(width: int, height: int, count: int, *, least_width: int = LEAST_WIDTH) -> tuple[int, int]:
    """Returns columns and rows of charts that are still readable, with no more places than
    needed.
    """
    columns = max(1, min(count, (width + GAP) // (least_width + GAP)))
    num_rows = max(1, min(-(-count // columns), height // LEAST_HEIGHT))
    return -(-count // num_rows) if columns * num_rows > count else columns, num_rows

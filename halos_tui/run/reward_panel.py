"""These panels show rewards: their mean over rounds with its noise, and their spread in a round."""

from __future__ import annotations

from rich.cells import set_cell_size

from halos_tui.charts.distribution import QUANTILES, Distribution
from halos_tui.charts.histogram import Histogram, draw_histogram
from halos_tui.charts.line_chart import LineChart, Series
from halos_tui.formatting import number
from halos_tui.run.view import DistributionView, RewardView
from halos_tui.widgets.canvas import Row

MIN_HEIGHT_FOR_FIGURES = 8


class RewardChart(LineChart):
    """It draws the mean reward by round, with one standard error around it."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__("reward before training", is_ascii=is_ascii, id=id)
        self._shown: RewardView | None = None

    def show(self, shown: RewardView) -> None:
        if shown is not self._shown:
            self._shown = shown
            series = Series("mean", shown.rounds, shown.means, shown.lows, shown.highs)
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
        figures = [_figures(part, width) for part in parts]
        if height < MIN_HEIGHT_FOR_FIGURES + len(figures):
            figures = []
        now, first = (shown.now, shown.first) if shown else (None, None)
        picture = draw_histogram(
            now,
            first,
            width,
            height - len(figures),
            title=self._title,
            is_ascii=self._is_ascii,
        )
        styles = ["now", "first"] if now else ["first"]
        return picture + [
            tuple((glyph, style) for glyph in text)
            for text, style in zip(figures, styles, strict=False)
        ]


def _figures(part: Distribution, width: int) -> str:
    """Writes quantiles as exactly as there is room for: `round 7  5% -6.9  25% ...`; ASCII."""
    line = part.name
    for gap, digits in (("  ", 3), (" ", 3), (" ", 2)):
        told = (
            f"{int(name[1:])}% {number(part.quantiles[name], digits)}"
            for name in QUANTILES
            if name in part.quantiles
        )
        line = gap.join((part.name, *told))
        if len(line) <= width:
            break
    return set_cell_size(line, width)

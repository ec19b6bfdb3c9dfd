"""Every step of lines whose points stand for several: what is taken out is as it was logged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from halos_backend.events import MetricsLogged
from halos_backend.store.reader import attempt_journal

from halos_tui.metrics.view import Chart, Line

BLOCK_BYTES = 1 << 20

Points = dict[float, float]
"""Value by step; of a step that was done again the later one."""


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

    def of(self, chart: Chart, line: Line) -> Iterator[tuple[float, float]]:
        """x and y, ascending."""
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

"""Measures a chart: drawing a million points, and the bytes of one more point in a live chart.

It prints one JSON object. Bytes are those an app writes to a 120x40 terminal: for the whole chart
painted anew, for one appended point, and for one by an app that sends all that it draws.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from array import array
from collections.abc import Callable

from textual.app import App, ComposeResult
from textual.drivers.headless_driver import HeadlessDriver

from halos_tui.charts.line_chart import ChartLook, LineChart, Series, thinned
from halos_tui.charts.picture import draw_chart
from halos_tui.terminal.diff_output import SparingApp

NUM_POINTS = 1_000_000
NUM_STEPS = 300
NUM_APPENDED = 50
WIDTH, HEIGHT = 120, 40
LIMITS = {"draw_thinned_s": 0.05, "changed_to_full": 0.05}
"""A million points are thinned in a thread, so that only the rest is done while keys wait."""


class CountingDriver(HeadlessDriver):
    """It is a terminal that only counts."""

    is_headless = False
    num_bytes = 0

    def write(self, data: str) -> None:
        type(self).num_bytes += len(data.encode())


class ChartApp(SparingApp[None]):
    def compose(self) -> ComposeResult:
        yield LineChart("implicit reward")


class PlainApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LineChart("implicit reward")


def seconds(work: Callable[[], object], num_turns: int = 5) -> float:
    """Returns the best of some turns."""
    times = []
    for _ in range(num_turns):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def curve(name: str, num_points: int, *, style_index: int) -> Series:
    numbers = random.Random(style_index)
    ys = array("d", (math.exp(-step / 80) + numbers.random() / 20 for step in range(num_points)))
    return Series(name, range(num_points), ys, style_index=style_index)


def curves(num_points: int) -> list[Series]:
    return [
        curve("chosen", num_points, style_index=1),
        curve("rejected", num_points, style_index=2),
    ]


async def bytes_of(app: App[None]) -> tuple[float, float]:
    """Counts the bytes of the whole chart, and of one more point on average."""
    async with app.run_test(headless=False, size=(WIDTH, HEIGHT)) as pilot:
        chart = app.query_one(LineChart)
        chart.update(curves(NUM_STEPS))
        await pilot.pause()
        CountingDriver.num_bytes = 0
        app.screen.refresh()
        await pilot.pause()
        full = CountingDriver.num_bytes
        CountingDriver.num_bytes = 0
        for step in range(NUM_APPENDED):
            chart.update(curves(NUM_STEPS + 1 + step))
            await pilot.pause()
        return full, CountingDriver.num_bytes / NUM_APPENDED


def main() -> None:
    look = ChartLook("implicit reward")
    million = [curve("chosen", NUM_POINTS, style_index=1)]
    few = curves(NUM_STEPS)
    thin = thinned(million[0], low=0, high=NUM_POINTS, num_buckets=2 * WIDTH)
    full, changed = asyncio.run(bytes_of(ChartApp(driver_class=CountingDriver)))
    plain_full, plain_changed = asyncio.run(bytes_of(PlainApp(driver_class=CountingDriver)))
    figures = {
        "draw_million_s": round(seconds(lambda: draw_chart(million, look, WIDTH, HEIGHT)), 4),
        "draw_thinned_s": round(seconds(lambda: draw_chart([thin], look, WIDTH, HEIGHT)), 4),
        "draw_live_s": round(seconds(lambda: draw_chart(few, look, WIDTH // 2, HEIGHT // 3)), 4),
        "full_bytes": full,
        "changed_bytes": round(changed),
        "changed_to_full": round(changed / full, 4),
        "plain_full_bytes": plain_full,
        "plain_changed_bytes": round(plain_changed),
    }
    report = {
        "benchmark": "charts",
        **figures,
        "limits": LIMITS,
        "within_limits": all(figures[name] <= limit for name, limit in LIMITS.items()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from halos_tui.charts.distribution import Distribution, densities
from halos_tui.charts.histogram import Histogram, draw_histogram
from halos_tui.widgets.canvas import text_of

ALL_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
NOW = Distribution(
    "round 2", [0, 5, 10], [1, 3], {"q05": 1, "q25": 4, "q50": 6, "q75": 8, "q95": 9}
)
FIRST = Distribution("round 1", [0, 10], [8])


def test_shares_are_spread_over_the_columns_of_a_bin() -> None:
    # half of 1 in 4 values, then half of 3 in 4
    assert densities(NOW, 0, 10, 4) == pytest.approx([0.125, 0.125, 0.375, 0.375])
    assert densities(NOW, 0, 20, 4) == pytest.approx([0.25, 0.75, 0, 0])


def test_a_bin_without_width_is_in_one_column() -> None:
    assert densities(Distribution("a", [2, 2], [7]), 0, 4, 4) == [0, 0, 1, 0]


def test_bars_stand_under_the_outline_of_the_other() -> None:
    # shares of 1/4, 3/4 and 1/2 + 1/2 in 10 columns each: of 4 rows 1.33, 4 and 2.67
    assert text_of(draw_histogram(NOW, FIRST, 20, 6, title="reward", is_ascii=True)) == [
        "reward  # round 2  -",
        "          ##########",
        "--------------------",
        "          ##########",
        "####################",
        "0                 10",
    ]


def test_quantiles_are_a_line_below() -> None:
    lines = text_of(draw_histogram(NOW, None, 20, 7, is_ascii=True))

    # 20 columns of half a unit: q05 in 2, q25 in 8, q50 in 12, q75 in 16, q95 in 18
    assert lines[5] == "  |-----====O====-| "


def test_blocks_show_eighths() -> None:
    lines = text_of(draw_histogram(Distribution("now", [0, 1, 2], [3, 8]), None, 2, 3))

    assert lines[:2] == [" █", "▆█"]  # 3 of 8 of two rows is 6 eighths


def test_what_is_there_at_all_is_seen() -> None:
    lines = text_of(draw_histogram(Distribution("now", [0, 1, 2], [1, 1000]), None, 2, 3))

    assert lines[1] == "▁█"


@pytest.mark.parametrize(
    "broken",
    [
        Distribution("a"),
        Distribution("a", [0, 1], [1, 2]),
        Distribution("a", [1, 0], [1]),
        Distribution("a", [0, math.nan], [1]),
        Distribution("a", [0, 1], [-1]),
    ],
)
def test_what_makes_no_sense_is_not_drawn(broken: Distribution) -> None:
    assert "no values yet" in text_of(draw_histogram(broken, None, 20, 5))[2]


@given(
    st.lists(ALL_FLOATS, max_size=5),
    st.lists(st.integers(0, 9), max_size=4),
    st.dictionaries(st.sampled_from(["q05", "q25", "q50", "q75", "q95"]), ALL_FLOATS),
    st.integers(0, 30),
    st.integers(0, 12),
    st.booleans(),
)
def test_any_data_is_drawn(
    edges: list[float],
    counts: list[int],
    quantiles: dict[str, float],
    width: int,
    height: int,
    is_ascii: bool,
) -> None:
    one = Distribution("one", sorted(edges), counts, quantiles)
    other = Distribution("other", edges, counts)

    rows = draw_histogram(one, other, width, height, is_ascii=is_ascii)

    assert [len(row) for row in rows] == [width] * height


class HistogramApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Histogram("reward", is_ascii=True)


def test_the_widget_shows_what_it_is_given() -> None:
    async def drive() -> None:
        app = HistogramApp()
        async with app.run_test(size=(20, 5)) as pilot:
            app.query_one(Histogram).update(NOW, FIRST)
            await pilot.pause()
            lines = [strip.text for strip in app.screen._compositor.render_strips()]
            assert lines == text_of(
                draw_histogram(NOW, FIRST, 20, 5, title="reward", is_ascii=True)
            )

    asyncio.run(drive())

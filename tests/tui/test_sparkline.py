from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halos_tui.runs.columns import ASCII_LEVELS, LEVELS, sparkline
from halos_tui.widgets.canvas import text_of
from halos_tui.widgets.gauge import gauge

ALL_FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def test_levels_go_from_the_least_to_the_greatest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 8], 8) == "▁▂▃▄▅▆▇█"


def test_neighbours_share_a_character_by_their_mean() -> None:
    assert (
        sparkline([0, 2, 8, 8, 4, 6], 3) == "▁█▅"
    )  # means 1, 8, 5: (5 - 1) / 7 of 8 levels is 4.57


def test_what_is_missing_is_a_blank() -> None:
    assert sparkline([1, None, math.nan, 2, math.inf], 9) == "▁  █ "


def test_equal_values_stand_in_the_middle() -> None:
    assert sparkline([3, 3], 2) == "▄▄"


def test_ascii_has_as_many_levels() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 8], 8, True) == ASCII_LEVELS
    assert len(LEVELS) == len(ASCII_LEVELS)


@given(st.lists(st.none() | ALL_FLOATS, max_size=40), st.integers(-1, 20))
def test_any_values_fit(values: list[float | None], width: int) -> None:
    assert len(sparkline(values, width)) == max(0, min(width, len(values)))


def test_a_gauge_fills_in_eighths() -> None:
    row = gauge(0.5, 19, label="GPU 0", text="50%")

    assert text_of([row]) == ["GPU 0 ████▌···· 50%"]  # 9 cells are 72 eighths


def test_an_ascii_gauge_stands_in_brackets() -> None:
    row = gauge(0.5, 20, label="disk", text="5 GB", is_ascii=True)

    assert text_of([row]) == ["disk [####....] 5 GB"]


def test_an_unknown_share_is_a_question() -> None:
    assert text_of([gauge(None, 12, label="mem", text="-")]) == ["mem   ?    -"]


@pytest.mark.parametrize(("width", "shown"), [(10, "GPU 0 100%"), (6, "G 100%"), (2, "10")])
def test_the_bar_gives_way_before_the_label(width: int, shown: str) -> None:
    assert text_of([gauge(1.0, width, label="GPU 0", text="100%")]) == [shown]


def test_gauges_under_each_other_line_up() -> None:
    rows = [
        gauge(1.0, 16, label=label, text=text, label_width=5, text_width=4)
        for label, text in (("cpu", "9%"), ("mem 漢", "100%"))
    ]

    assert text_of(rows) == ["cpu   █████ 9%  ", "mem   █████ 100%"]


def test_a_label_cannot_steer_the_terminal() -> None:
    assert text_of([gauge(None, 12, label="\x1b[2J")]) == ["\\x1b[2J  ?  "]


@given(ALL_FLOATS, st.integers(0, 30), st.text(max_size=8), st.text(max_size=8), st.booleans())
def test_any_gauge_fills_its_width(
    fraction: float, width: int, label: str, text: str, is_ascii: bool
) -> None:
    assert len(gauge(fraction, width, label=label, text=text, is_ascii=is_ascii)) == width

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from halos_tui.runs.columns import ASCII_LEVELS, LEVELS, sparkline

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

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halos_tui.widgets.canvas import (
    ASCII,
    BLOCKS,
    BRAILLE,
    Canvas,
    Raster,
    changed_span,
    runs,
    text_of,
)

ALL_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
RASTERS = st.sampled_from([BRAILLE, BLOCKS, ASCII])


def test_a_braille_diagonal_has_a_dot_in_each_row() -> None:
    canvas = Canvas(2, 1)

    canvas.line((0, 0), (3, 3), "a")

    assert text_of(canvas.rows()) == ["⠑⢄"]  # dots 1 and 5, then 3 and 8


def test_blocks_have_four_dots_a_cell() -> None:
    canvas = Canvas(2, 1, BLOCKS)

    canvas.line((0, 0), (3, 1), "a")

    assert text_of(canvas.rows()) == ["▀▄"]


def test_ascii_has_an_upper_and_a_lower_dot() -> None:
    canvas = Canvas(3, 1, ASCII)

    canvas.line((0, 1), (1, 0), "a")
    canvas.dot(2, 0, "a")
    canvas.dot(2, 1, "a")

    assert text_of(canvas.rows()) == [".':"]


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_leaves_a_gap(missing: float) -> None:
    canvas = Canvas(4, 1)

    canvas.polyline([(0, 0), (1, 0), (3, missing), (6, 0), (7, 0)], "a")

    assert text_of(canvas.rows()) == ["⠉⠀⠀⠉".replace("⠀", " ")]


def test_a_point_alone_is_a_dot() -> None:
    canvas = Canvas(1, 1)

    canvas.polyline([(math.nan, 0), (1, 3), (math.nan, 0)], "a")

    assert text_of(canvas.rows()) == ["⢀"]


def test_a_line_from_far_outside_crosses_as_a_whole() -> None:
    canvas = Canvas(2, 1)

    canvas.line((0, -1e300), (3, 1e300), "a")

    assert text_of(canvas.rows()) == [" ⡇"]  # all four dots of column 2, the nearest to 1.5


def test_the_last_line_through_a_cell_gives_its_style() -> None:
    canvas = Canvas(2, 1)

    canvas.line((0, 0), (3, 0), "below")
    canvas.line((0, 1), (1, 1), "above")

    assert canvas.rows() == [(("⠛", "above"), ("⠉", "below"))]


def test_marks_leave_what_is_there() -> None:
    canvas = Canvas(3, 2)
    canvas.dot(2, 0, "a")

    canvas.vertical(1, "│", "cursor")
    canvas.horizontal(1, "─", "level")

    assert text_of(canvas.rows()) == [" ⠁ ", "─│─"]


def test_shade_is_a_quincunx() -> None:
    canvas = Canvas(2, 1)

    for x in range(4):
        canvas.shade(x, 0, 3, "band")

    assert text_of(canvas.rows()) == ["⠡⠡"]  # dots 1 and 6: (0, 0) and (1, 2), and again


def test_half_a_wide_character_is_no_character() -> None:
    canvas = Canvas(6, 1)

    canvas.write(0, 0, "漢字e\u0301", "a")
    canvas.write(1, 0, "x", "b")
    canvas.write(5, 0, "漢", "c")

    assert text_of(canvas.rows()) == [" x字e\u0301 "]
    assert [style for _, style in canvas.rows()[0]] == ["a", "b", "a", "a", "a", "c"]


def test_text_outside_is_left_out() -> None:
    canvas = Canvas(3, 1)

    canvas.write(-2, 0, "abcdefg", "a")
    canvas.write(0, 5, "below", "a")

    assert text_of(canvas.rows()) == ["cde"]


def test_neighbours_of_one_style_are_one_run() -> None:
    row = (("a", "x"), ("b", "x"), ("漢", "y"), ("", "y"))

    assert runs(row) == [("ab", "x"), ("漢", "y")]


def test_a_changed_span_holds_whole_characters() -> None:
    wide = ((" ", ""), ("漢", "x"), ("", "x"), (" ", ""))
    other = ((" ", ""), ("字", "x"), ("", "x"), (" ", ""))

    assert changed_span(wide, wide) is None
    assert changed_span(wide, other) == (1, 3)


@given(
    st.integers(0, 6),
    st.integers(0, 3),
    RASTERS,
    st.lists(st.tuples(ALL_FLOATS, ALL_FLOATS), max_size=6),
)
def test_any_line_fits_any_canvas(
    width: int, height: int, raster: Raster, points: list[tuple[float, float]]
) -> None:
    canvas = Canvas(width, height, raster)

    canvas.polyline(points, "a")

    assert [len(row) for row in canvas.rows()] == [width] * height

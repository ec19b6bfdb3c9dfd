from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.strip import Strip

from halos_tui.charts.frame import told_apart
from halos_tui.charts.line_chart import ChartLook, LineChart, Series
from halos_tui.charts.picture import draw_chart
from halos_tui.formatting import size
from halos_tui.widgets.canvas import text_of

ALL_FLOATS = st.floats(allow_nan=True, allow_infinity=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = ChartLook("loss", is_ascii=True)


def picture(
    series: Sequence[Series], look: ChartLook = PLAIN, width: int = 16, height: int = 5
) -> list[str]:
    return text_of(draw_chart(series, look, width, height).rows)


def test_a_line_from_corner_to_corner() -> None:
    # 14 columns and 6 rows of dots: y falls by 5/13 of a dot a column
    assert picture([Series("loss", [0, 1], [0, 1])]) == [
        "loss  1         ",
        "1+          ..'o",
        " |    ...'''    ",
        "0+o.''          ",
        "  0            1",
    ]


def test_two_lines_have_markers_and_a_legend_of_their_own() -> None:
    series = [
        Series("chosen", [0, 1], [1, 1]),
        Series("rejected", [0, 1], [0, 0], style_index=2),
    ]

    assert picture(series, width=26, height=7) == [
        "loss                      ",
        "o chosen 1  * rejected 0  ",
        "1.0+o''''''''''''''''''''o",
        "   |                      ",
        "0.5+                      ",
        "0.0+*....................*",
        "    0                    1",
    ]


def test_a_value_that_is_missing_leaves_a_gap() -> None:
    lines = picture([Series("loss", [0, 1, 2, 3, 4], [1, 1, math.nan, 1, 1])], width=42)

    # 40 columns: the points lie at 0, 9.75, 19.5, 29.25 and 39
    assert lines[2] == "1+o" + "." * 9 + "o" + " " * 18 + "o" + "." * 9 + "o"


def test_a_point_alone_has_a_marker() -> None:
    assert [line.count("o") for line in picture([Series("loss", [3], [0.5])])[1:]] == [0, 1, 0, 0]


def test_the_cursor_reads_the_point_at_or_before_it() -> None:
    look = ChartLook("loss", is_ascii=True, cursor=1.5)
    series = [Series("loss", [0, 1, 2], [10, 20, 40])]

    assert picture(series, look, width=26)[0].rstrip() == "loss  20  at 1.5"


def test_the_cursor_stands_beside_the_lines() -> None:
    look = ChartLook("loss", is_ascii=True, cursor=1)

    lines = picture([Series("loss", [0, 1, 2], [0, 1, 0])], look, width=23, height=6)

    assert [line[13] for line in lines] == [" ", "o", "|", "|", "|", " "]


def test_a_spread_is_shaded_and_counts_for_the_axis() -> None:
    series = [Series("loss", [0, 1], [1, 1], [0, 0], [2, 2])]

    lines = picture(series, ChartLook("loss"), width=18, height=7)

    assert lines[1].startswith("2┤⠡⠡⠡")
    assert "●" in lines[3]
    assert "⠡⠡⠡" in lines[4]


def test_a_log_scale_shows_decades_at_equal_distances() -> None:
    look = ChartLook("loss", is_ascii=True, is_log=True)

    lines = picture([Series("loss", [0, 1, 2, 3], [1000, 100, 10, 1])], look, width=30, height=9)

    assert [line[:5] for line in lines[1:-1]] == [
        "1,000",
        "     ",
        "  100",
        "     ",
        "   10",
        "     ",
        "    1",
    ]


def test_a_log_scale_without_anything_to_show_says_so() -> None:
    look = ChartLook("loss", is_ascii=True, is_log=True)

    assert "no value above 0 yet" in picture([Series("loss", [0, 1], [0, -1])], look, 30)[2]


def test_a_window_shows_its_part_and_what_leads_there() -> None:
    look = ChartLook("loss", is_ascii=True, window=(4, 6))
    series = [Series("loss", list(range(11)), [float(x) for x in range(11)])]

    lines = picture(series, look, width=30, height=7)

    assert (lines[1][:3], lines[-2][:3]) == ("6+ ", "4+o")
    assert lines[-1].split() == ["4", "5", "6"]


def test_bounds_of_y_hold_whatever_the_data() -> None:
    look = ChartLook("acc", is_ascii=True, y_range=(0, 1))

    lines = picture([Series("acc", [0, 1], [0.4, 3])], look, height=7)

    assert (lines[1][:4], lines[-2][:4]) == ("1.0+", "0.0+")


def test_labels_are_written_as_the_caller_says() -> None:
    look = ChartLook("memory", is_ascii=True, format_y=size)

    assert "500 B+" in picture([Series("memory", [0, 1], [0, 500])], look, width=30)[1]


def test_a_unit_stands_behind_values_and_a_short_one_behind_labels() -> None:
    share = [Series("cut off", [0, 1], [0, 50])]
    lines = picture(share, ChartLook("cut off", is_ascii=True, unit="%"), width=30)
    assert (lines[0].rstrip(), lines[1][:4]) == ("cut off  50%", "50%+")

    memory = [Series("memory", [0, 1], [0, 2.5])]
    lines = picture(memory, ChartLook("memory", is_ascii=True, unit=" GiB"), width=30)
    assert (lines[0].rstrip(), lines[1][:2]) == ("memory  2.50 GiB", "2+")


@pytest.mark.parametrize(
    ("ys", "bands", "value"),
    [
        ([0.25, 1.0, 0.5], None, "0.50"),  # three digits of 1.0
        ([1.0, 3.0, 2.0], None, "2"),
        ([-0.93858, 0.38269], (0.16, 0.16), "0.38"),  # no more than two digits of the error
        ([250.31, 252.64], None, "252.6"),  # two digits of 2.33 tell both apart
        ([13054.2, 13804.9], None, "13,805"),
        ([1.0, 1e-10], None, "0"),
        ([1.5, 1e-10], None, "0.00"),
        ([2e-4, 2e-4], None, "0.0002"),
        ([5e-6, 1e-6], None, "1e-6"),
    ],
)
def test_values_of_a_chart_are_as_exact_as_it_is(
    ys: list[float], bands: tuple[float, float] | None, value: str
) -> None:
    lows = None if bands is None else [y - b for y, b in zip(ys, bands, strict=True)]
    highs = None if bands is None else [y + b for y, b in zip(ys, bands, strict=True)]
    series = Series("loss", list(range(len(ys))), ys, lows, highs)

    assert picture([series], width=40)[0].rstrip() == f"loss  {value}"


def test_without_a_cursor_the_last_point_that_has_a_value_is_read() -> None:
    series = Series("loss", [1, 2, 3], [4, 8, math.nan])

    assert picture([series])[0].rstrip() == "loss  8"
    at_the_gap = ChartLook("loss", is_ascii=True, cursor=3)
    assert picture([series], at_the_gap, width=30)[0].rstrip() == "loss  -  at 3"


ALIKE = ("dpo-smollm2-lr1e-6-a", "dpo-smollm2-lr3e-6-a")


@pytest.mark.parametrize(
    ("names", "width", "short"),
    [
        (ALIKE, 20, ALIKE),
        (ALIKE, 16, ("dpo-smo…lr1e-6-a", "dpo-smo…lr3e-6-a")),
        (ALIKE, 12, ("dpo…lr1e-6-a", "dpo…lr3e-6-a")),
        (ALIKE, 6, ("…lr1e…", "…lr3e…")),
        (("kto-on-math-a", "dpo-on-math-a"), 8, ("kto-on…a", "dpo-on…a")),
        (("a-run", "something-long-x", "something-long-y"), 8, ("a-run", "…-long-x", "…-long-y")),
        (
            ("dpo-lr1e-6-a r1", "dpo-lr1e-6-a r2", "dpo-lr3e-6-a r1"),
            7,
            ("lr1e…r1", "lr1e…r2", "lr3e…r1"),
        ),
        (("a-very-long-name",), 8, ("a-very-…",)),
        ((), 8, ()),
    ],
)
def test_names_are_shortened_so_that_what_differs_stays(
    names: tuple[str, ...], width: int, short: tuple[str, ...]
) -> None:
    assert told_apart(names, width) == short


@given(st.lists(st.text("ab-1", max_size=12), max_size=5), st.integers(0, 14))
def test_shortened_names_fit(names: list[str], width: int) -> None:
    assert all(len(name) <= width for name in told_apart(tuple(names), width))


def test_a_legend_keeps_what_differs_between_its_names() -> None:
    series = [Series(name, [0, 1], [0, 1], style_index=n) for n, name in enumerate(ALIKE, 1)]

    legend = picture(series, width=36, height=7)[1]

    # two names have what two markers, values and blanks beside them leave of 36 cells, and 2
    assert legend == "o dpo-…lr1e-6-a 1  * dpo-…lr3e-6-a 1"


def test_a_legend_without_room_for_names_that_differ_has_values_alone() -> None:
    series = [Series(name, [0, 1], [0, 1], style_index=n) for n, name in enumerate(ALIKE, 1)]

    assert picture(series, width=12, height=7)[1] == "o 1  * 1    "
    assert picture(series, width=6, height=7)[1] == "o 1   ", "and no value is cut"


def test_a_faint_line_is_in_no_legend() -> None:
    series = [Series("raw", [0, 1], [0, 2], style_index=0), Series("loss", [0, 1], [1, 1])]

    assert picture(series)[0] == "loss  1         "


def test_names_cannot_steer_the_terminal() -> None:
    look = ChartLook("\x1b]52;c;eA==\x07", is_ascii=True)
    series = [Series(name, [0, 1], [0, 1]) for name in ("\u202eevil", "a\nb")]

    text = "".join(picture(series, look, width=60, height=8))

    assert "\\x1b]52" in text
    assert "\\u202e" in text
    assert text.isprintable()


def test_an_axis_of_few_points_ends_at_the_last() -> None:
    few = draw_chart([Series("reward", range(1, 8), [0.5] * 7)], PLAIN, 40, 10)
    more = draw_chart([Series("reward", range(1, 31), [0.5] * 30)], PLAIN, 40, 10)

    assert few.x_axis is not None and more.x_axis is not None
    assert (few.x_axis.scale.low, few.x_axis.scale.high) == (1, 7)
    assert more.x_axis.scale.high == 30


def test_the_axis_does_not_move_with_every_point() -> None:
    before = draw_chart([Series("loss", range(22), [0.5] * 22)], PLAIN, 40, 10)
    after = draw_chart([Series("loss", range(25), [0.5] * 25)], PLAIN, 40, 10)

    assert before.x_axis == after.x_axis
    assert before.y_axis == after.y_axis


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (5, 2), (20, 3), (200, 60)])
def test_it_fills_any_room(shape: tuple[int, int]) -> None:
    width, height = shape
    for series in ([], [Series("loss", [1], [1])], [Series("漢字", [1, 2], [1, 2])] * 2):
        rows = draw_chart(series, ChartLook("loss", cursor=1), width, height).rows
        assert [len(row) for row in rows] == [width] * height


@settings(deadline=None)
@given(
    st.lists(st.tuples(FINITE, ALL_FLOATS, ALL_FLOATS, ALL_FLOATS), max_size=12),
    st.tuples(st.none() | FINITE, st.none() | FINITE),
    st.none() | FINITE,
    st.integers(0, 40),
    st.integers(0, 16),
    st.booleans(),
    st.booleans(),
)
def test_any_data_is_drawn(
    points: list[tuple[float, float, float, float]],
    window: tuple[float | None, float | None],
    cursor: float | None,
    width: int,
    height: int,
    is_log: bool,
    is_ascii: bool,
) -> None:
    points.sort(key=lambda point: point[0])
    xs, ys, low, high = ([point[index] for point in points] for index in range(4))
    series = [Series("a", xs, ys, low, high), Series("b", xs, low, style_index=2)]
    look = ChartLook(
        "loss", is_log=is_log, is_ascii=is_ascii, window=window, y_range=window, cursor=cursor
    )

    rows = draw_chart(series, look, width, height).rows

    assert [len(row) for row in rows] == [width] * height
    if is_ascii:
        assert all(line.replace("…", "").isascii() for line in text_of(rows))


class WatchedChart(LineChart):
    """Notes which lines are rendered."""

    rendered: tuple[int, ...] = ()

    def render_line(self, y: int) -> Strip:
        self.rendered = (*self.rendered, y)
        return super().render_line(y)


class ChartApp(App[None]):
    CSS = "WatchedChart { height: 10; }"

    def compose(self) -> ComposeResult:
        yield WatchedChart("loss", [flat(10)], is_ascii=True)


def flat(num_points: int) -> Series:
    return Series("loss", range(num_points), [1.0] * num_points)


def test_only_changed_lines_are_rendered_again() -> None:
    async def drive() -> None:
        app = ChartApp()
        async with app.run_test(size=(40, 12)) as pilot:
            chart = app.query_one(WatchedChart)
            assert sorted(set(chart.rendered)) == list(range(10))
            chart.zoom(0, 20)
            await pilot.pause()
            chart.rendered = ()
            chart.update([flat(10)])
            await pilot.pause()
            assert chart.rendered == ()
            chart.update([flat(11)])
            await pilot.pause()
            (row,) = (y for y, line in enumerate(lines_of(app, 10)) if line[10] in ".'")
            assert set(chart.rendered) == {row}

    asyncio.run(drive())


def test_what_is_set_is_seen() -> None:
    async def drive() -> None:
        app = ChartApp()
        async with app.run_test(size=(40, 12)) as pilot:
            chart = app.query_one(WatchedChart)
            chart.update([Series("loss", [0, 1, 2], [1, 2, 4])])
            chart.move_cursor(1)
            chart.zoom(0, 1)
            chart.configure(is_log=True)
            await pilot.pause()
            assert lines_of(app, 1)[0].rstrip() == "loss  2  at 1"
            assert [(reading.x, reading.y) for reading in chart.readings()] == [(1, 2)]
            assert chart.x_bounds() == (0, 1)
            assert (chart.x_at(0), chart.x_at(39)) == (None, 1)
            await pilot.resize_terminal(20, 4)
            await pilot.pause()
            assert len(lines_of(app, 4)[0]) == 20

    asyncio.run(drive())


def lines_of(app: App[None], height: int) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()[:height]]

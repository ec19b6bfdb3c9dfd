from __future__ import annotations

import math
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halos_tui.charts.axis import Axis, Scale, linear_axis, log_axis, tick_labels

FINITE = st.floats(allow_nan=False, allow_infinity=False)
LARGEST = sys.float_info.max
POSITIVE = st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("low", "high", "num_ticks", "ticks"),
    [
        (0, 1, 3, (0, 0.5, 1)),
        (0.13, 0.97, 5, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (-3, 7, 3, (-5, 0, 5, 10)),
        (0, 300, 7, (0, 50, 100, 150, 200, 250, 300)),
        (1e-7, 9e-7, 5, (0, 2e-7, 4e-7, 6e-7, 8e-7, 1e-6)),
    ],
)
def test_ticks_are_one_two_or_five_times_a_power_of_ten(
    low: float, high: float, num_ticks: int, ticks: tuple[float, ...]
) -> None:
    assert linear_axis(low, high, num_ticks=num_ticks).ticks == ticks


def test_a_fixed_end_stays_where_it_is() -> None:
    axis = linear_axis(3, 47, num_ticks=5, fixed=(True, False))

    assert axis == Axis(Scale(3, 50), (10, 20, 30, 40, 50))


def test_an_end_may_lie_between_ticks() -> None:
    axis = linear_axis(0.02, 1.01, num_ticks=3, parts=5)

    assert axis == Axis(Scale(0, 1.1), (0, 0.5, 1))


def test_rounds_have_no_halves() -> None:
    assert linear_axis(1, 3, num_ticks=10, is_whole=True).ticks == (1, 2, 3)
    assert linear_axis(1, 1, num_ticks=10, is_whole=True).ticks == (1, 2)


def test_log_ticks_are_powers_of_ten_where_there_are_enough() -> None:
    assert log_axis(3e-5, 0.2, num_ticks=8) == Axis(
        Scale(2e-5, 0.2, is_log=True), (1e-4, 1e-3, 1e-2, 1e-1)
    )
    assert log_axis(0.3, 4, num_ticks=8).ticks == (0.2, 0.5, 1, 2, 5)


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ((0, 0.5, 1), ["0.0", "0.5", "1.0"]),
        ((-0.1, 0, 0.1), ["-0.1", "0.0", "0.1"]),
        ((0.2, 0.30000000000000004), ["0.2", "0.3"]),
        ((0.635, 0.64, 0.645), ["0.635", "0.640", "0.645"]),
        ((12_500, 13_000), ["12,500", "13,000"]),
        ((0, 5e5), ["0", "500,000"]),
        ((0, 1e-4, 2e-4), ["0.0000", "0.0001", "0.0002"]),
        ((0, 2e-7), ["0", "2e-7"]),
        ((0, 1e6), ["0", "1e6"]),
        ((1_000_000.5, 1_000_001.0), ["1000000.5", "1000001"]),
        ((3,), ["3"]),
    ],
)
def test_labels_share_their_places_and_tell_ticks_apart(
    ticks: tuple[float, ...], labels: list[str]
) -> None:
    assert tick_labels(ticks) == labels


@given(st.floats(1e-4, 9e5), st.floats(1e-4, 1), st.integers(2, 12), st.booleans())
def test_no_label_has_a_power_of_ten_between_a_ten_thousandth_and_a_million(
    high: float, share: float, num_ticks: int, is_log: bool
) -> None:
    low = max(1e-4, high * share)
    axis = (log_axis if is_log else linear_axis)(low, high, num_ticks=num_ticks)

    assert not [
        label
        for tick, label in zip(axis.ticks, axis.labels(), strict=True)
        if "e" in label and 1e-4 <= abs(tick) < 1e6
    ]


@example(LARGEST, LARGEST, 9, True, 1)
@example(LARGEST - math.ulp(LARGEST), LARGEST - math.ulp(LARGEST), 9, True, 1)
@given(FINITE, FINITE, st.integers(1, 12), st.booleans(), st.sampled_from([1, 5]))
def test_an_axis_holds_all_values(
    one: float, other: float, num_ticks: int, is_whole: bool, parts: int
) -> None:
    low, high = min(one, other), max(one, other)

    axis = linear_axis(low, high, num_ticks=num_ticks, is_whole=is_whole, parts=parts)

    _check(axis, low, high)
    assert len(axis.ticks) <= 2 * num_ticks + 3


@given(POSITIVE, POSITIVE, st.integers(1, 12))
def test_a_log_axis_holds_all_values(one: float, other: float, num_ticks: int) -> None:
    low, high = min(one, other), max(one, other)

    _check(log_axis(low, high, num_ticks=num_ticks), max(low, 1e-300), max(high, 1e-300))


@given(FINITE, FINITE, st.floats(0, 1))
def test_a_share_leads_back_to_its_value(one: float, other: float, share: float) -> None:
    scale = linear_axis(min(one, other), max(one, other), num_ticks=4).scale

    assert scale.share(scale.value(share)) == pytest.approx(share, abs=1e-3)


def test_what_has_no_place_has_no_share() -> None:
    assert math.isnan(Scale(0, 1).share(math.inf))
    assert math.isnan(Scale(1, 10, is_log=True).share(0))
    assert Scale(1, 100, is_log=True).share(10) == 0.5


def _check(axis: Axis, low: float, high: float) -> None:
    assert math.isfinite(axis.scale.low)
    assert math.isfinite(axis.scale.high)
    assert axis.scale.low < axis.scale.high
    assert axis.scale.low <= low * (1 + math.copysign(1e-9, low))
    assert axis.scale.high >= high * (1 - math.copysign(1e-9, high))
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(axis.scale.low <= tick <= axis.scale.high for tick in axis.ticks)
    assert len(tick_labels(axis.ticks)) == len(axis.ticks)


def test_values_that_are_nothing_but_rounding_have_the_axis_of_zero() -> None:
    axis = linear_axis(-7.5e-10, 3e-10, num_ticks=4)

    assert axis == linear_axis(0.0, 0.0, num_ticks=4)
    assert len(set(axis.labels())) == len(axis.ticks)

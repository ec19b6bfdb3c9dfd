from __future__ import annotations

import math
import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halos_tui.charts.series import Series, index_at, smoothed, thinned, with_gaps

FINITE = st.floats(-1e6, 1e6)
ALL_FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def test_smoothing_is_a_weighted_mean_of_the_past() -> None:
    assert smoothed([1, 3], 0.5) == pytest.approx([1, (0.5 * 1 + 1 * 3) / 1.5])


@given(st.lists(FINITE, max_size=30), st.floats(0, 0.99))
def test_smoothing_weighs_by_powers_of_its_weight(values: list[float], weight: float) -> None:
    expected = [
        math.fsum(weight ** (last - index) * values[index] for index in range(last + 1))
        / math.fsum(weight ** (last - index) for index in range(last + 1))
        for last in range(len(values))
    ]

    assert smoothed(values, weight) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_gap_stays_a_gap_and_counts_for_nothing() -> None:
    result = smoothed([2, math.nan, 4], 0.5)

    assert math.isnan(result[1])
    assert [result[0], result[2]] == smoothed([2, 4], 0.5)


@pytest.mark.parametrize("weight", [-0.1, 1, math.nan])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of the past"):
        smoothed([1], weight)


def test_a_series_has_as_many_values_as_places() -> None:
    with pytest.raises(ValueError, match="series 'loss'"):
        Series("loss", [1, 2], [1])


def test_what_is_missing_becomes_a_gap() -> None:
    assert with_gaps([1, None])[0] == 1
    assert math.isnan(with_gaps([1, None])[1])


def test_the_value_at_a_place_is_that_of_the_last_point_before() -> None:
    xs = [1, 3, 3, 7]

    assert [index_at(xs, x) for x in (0, 1, 2, 3, 100)] == [None, 0, 0, 2, 3]


def test_few_points_stay_as_they_are() -> None:
    series = Series("loss", [1, 2, 3], [5, math.nan, 7])

    assert thinned(series, low=1, high=3, num_buckets=10).xs == [1, 2, 3]


def test_a_spike_in_a_million_points_stays() -> None:
    ys = array("d", bytes(8 * 1_000_000))
    ys[123_456], ys[765_432] = 9.0, -4.0
    series = Series("loss", range(1_000_000), ys)

    thin = thinned(series, low=0, high=999_999, num_buckets=200)

    assert len(thin.xs) <= 4 * 202
    points = dict(zip(thin.xs, thin.ys, strict=True))
    assert (points[123_456], points[765_432]) == (9.0, -4.0)
    assert list(thin.xs) == sorted(set(thin.xs))


@given(st.lists(ALL_FLOATS, min_size=50, max_size=120), st.integers(1, 8), st.integers(0, 30))
def test_each_bucket_keeps_its_extremes(ys: list[float], num_buckets: int, low: int) -> None:
    high = len(ys) - 1
    thin = thinned(Series("loss", range(len(ys)), ys), low=low, high=high, num_buckets=num_buckets)

    kept = dict(zip(thin.xs, thin.ys, strict=True))
    for bucket in range(num_buckets):
        inside = [
            x
            for x in range(low, high + 1)
            if min(num_buckets - 1, int((x - low) * num_buckets / (high - low))) == bucket
            and math.isfinite(ys[x])
        ]
        if inside:
            assert {min(ys[x] for x in inside), max(ys[x] for x in inside)} <= set(kept.values())


def test_a_stretch_without_values_stays_a_gap() -> None:
    ys = [0.0] * 100 + [math.nan] * 100 + [0.0] * 100

    thin = thinned(Series("loss", range(300), ys), low=0, high=299, num_buckets=12)

    assert any(math.isnan(y) for y in thin.ys)


def test_the_spread_is_as_wide_as_the_widest_of_its_bucket() -> None:
    numbers = random.Random(0)
    ys = [numbers.random() for _ in range(1000)]
    lows, highs = [y - numbers.random() for y in ys], [y + numbers.random() for y in ys]

    thin = thinned(Series("loss", range(1000), ys, lows, highs), low=0, high=999, num_buckets=10)

    assert thin.low is not None
    assert thin.high is not None
    assert (min(thin.low), max(thin.high)) == (min(lows), max(highs))


def test_zooming_keeps_the_points_just_outside() -> None:
    thin = thinned(Series("loss", [0, 10, 20, 30], [1, 2, 3, 4]), low=12, high=18, num_buckets=5)

    assert list(thin.xs) == [10, 20]

"""Statistics of a round's rewards, against hand-worked values and the statistics module."""

from __future__ import annotations

import statistics

import numpy
import pytest
from halos_backend.events.summaries import RewardHistogram
from halos_backend.stages.label.statistics import (
    correlation,
    histogram,
    reward_statistics,
)
from halos_backend.stages.quantiles import quantile
from hypothesis import given
from hypothesis import strategies as st

finite = st.floats(-1e6, 1e6, allow_nan=False)


def test_statistics_of_four_rewards() -> None:
    # Deviations from 4: -3, -2, 0, 5, of squares 9, 4, 0, 25: variance 38 / 4.
    figures = reward_statistics([1.0, 2.0, 4.0, 9.0], [1, 2, 3, 4])
    assert figures.mean == 4.0
    assert figures.std == pytest.approx(9.5**0.5)
    assert (figures.min, figures.max) == (1.0, 9.0)
    # Positions 0.15, 0.75, 1.5, 2.25, 2.85 between the order statistics.
    assert figures.q05 == pytest.approx(1.15)
    assert figures.q25 == pytest.approx(1.75)
    assert figures.q50 == pytest.approx(3.0)
    assert figures.q75 == pytest.approx(5.25)
    assert figures.q95 == pytest.approx(8.25)
    # Lengths deviate by -1.5, -0.5, 0.5, 1.5: covariance sum 13, over sqrt(38 * 5).
    assert figures.length_corr == pytest.approx(13 / 190**0.5)


def test_statistics_of_no_rewards_are_null() -> None:
    figures = reward_statistics([], [])
    assert len(figures) == 11
    assert set(figures) == {None}


def test_statistics_of_equal_rewards_have_no_spread_and_no_correlation() -> None:
    figures = reward_statistics([0.1] * 7, [1, 2, 3, 4, 5, 6, 7])
    assert figures.mean == 0.1
    assert figures.std == 0.0
    assert figures.q05 == figures.q95 == 0.1
    assert figures.length_corr is None
    assert figures.histogram == RewardHistogram((-0.4, 0.6), (7,))


def test_rewards_that_only_rounding_tells_apart_have_no_correlation() -> None:
    rewards, lengths = [1.0, 1.000001, 1.000002], [1, 2, 3]
    assert reward_statistics(rewards, lengths).length_corr == pytest.approx(1.0)
    assert reward_statistics(rewards, lengths, rounding=1e-5).length_corr is None


def test_histogram_has_twenty_closed_bins_from_least_to_greatest() -> None:
    found = histogram([0.0, 0.0, 1.0, 10.5, 19.0, 19.99, 20.0])
    assert found.edges == tuple(map(float, range(21)))
    expected = [0] * 20
    expected[0], expected[1], expected[10], expected[19] = 2, 1, 1, 3
    assert list(found.counts) == expected


def test_histogram_of_rewards_a_rounding_apart_loses_none() -> None:
    found = histogram([1.0, 1.0 + 2.3e-16, 1.0 + 4.5e-16])
    assert sum(found.counts) == 3


def test_correlation_is_null_where_it_has_no_meaning() -> None:
    assert correlation([1.0], [1]) is None
    assert correlation([1.0, 1.0], [1, 2]) is None
    assert correlation([1.0, 2.0], [3, 3]) is None
    assert correlation([1.0, 2.0], [2, 1]) == -1.0


@given(st.lists(finite, min_size=1, max_size=30), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    expected = float(numpy.quantile(values, share))
    assert quantile(sorted(values), share) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(finite, min_size=1, max_size=30))
def test_statistics_agree_with_the_standard_library(values: list[float]) -> None:
    figures = reward_statistics(values, list(range(len(values))))
    assert figures.mean == pytest.approx(statistics.mean(values), abs=1e-9)
    assert figures.std == pytest.approx(statistics.pstdev(values), rel=1e-9)
    assert sum(figures.histogram.counts) == len(values)
    edges = figures.histogram.edges
    assert list(edges) == sorted(edges)

"""The batch plan: properties over all plans, and a plan worked out by hand."""

from __future__ import annotations

import pytest
from halos_backend.stages.sample.batches import Row, num_done_batches, plan_batches
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=20)
SIZES = st.integers(1, 9)


def test_like_lengths_are_together_and_the_longest_first() -> None:
    batches = plan_batches([5, 9, 7], group_size=2, batch_size=5)
    assert [batch.groups for batch in batches] == [(1, 2), (0,)]
    assert batches[0].rows == (Row(1, 0), Row(1, 1), Row(2, 0), Row(2, 1))
    assert batches[1].rows == (Row(0, 0), Row(0, 1))


def test_a_group_larger_than_a_batch_has_batches_of_its_own() -> None:
    batches = plan_batches([3, 8], group_size=5, batch_size=2)
    assert [[row.k for row in batch.rows] for batch in batches] == [[0, 1], [2, 3], [4]] * 2
    assert [batch.groups for batch in batches] == [(), (), (1,), (), (), (0,)]


@given(LENGTHS, SIZES, SIZES)
def test_every_row_is_in_one_batch(lengths: list[int], group_size: int, batch_size: int) -> None:
    batches = plan_batches(lengths, group_size=group_size, batch_size=batch_size)
    rows = [row for batch in batches for row in batch.rows]
    expected = {Row(index, k) for index in range(len(lengths)) for k in range(group_size)}
    assert len(rows) == len(expected)
    assert set(rows) == expected
    assert all(1 <= len(batch.rows) <= batch_size for batch in batches)


@given(LENGTHS, SIZES, SIZES)
def test_a_group_is_complete_after_the_batch_that_names_it(
    lengths: list[int], group_size: int, batch_size: int
) -> None:
    batches = plan_batches(lengths, group_size=group_size, batch_size=batch_size)
    made: list[Row] = []
    for batch in batches:
        made += batch.rows
        for index in batch.groups:
            assert [row.k for row in made if row.prompt_index == index] == list(range(group_size))
    named = [index for batch in batches for index in batch.groups]
    assert sorted(named) == list(range(len(lengths)))
    assert [lengths[index] for index in named] == sorted(lengths, reverse=True)


@given(LENGTHS, SIZES, SIZES, st.integers(0, 25))
def test_done_batches_hold_exactly_the_groups_they_are_said_to(
    lengths: list[int], group_size: int, batch_size: int, num_groups: int
) -> None:
    batches = plan_batches(lengths, group_size=group_size, batch_size=batch_size)
    num_batches, num_kept = num_done_batches(batches, num_groups)
    assert sum(len(batch.groups) for batch in batches[:num_batches]) == num_kept <= num_groups
    assert sum(len(batch.rows) for batch in batches[:num_batches]) == num_kept * group_size
    # one more batch with groups would need groups that are not there
    following = [batch for batch in batches[num_batches:] if batch.groups]
    assert not following or num_kept + len(following[0].groups) > num_groups


@pytest.mark.parametrize(
    ("num_groups", "done"), [(0, (0, 0)), (1, (0, 0)), (2, (1, 2)), (3, (2, 3)), (9, (2, 3))]
)
def test_a_batch_that_is_half_there_is_repeated(num_groups: int, done: tuple[int, int]) -> None:
    batches = plan_batches([5, 9, 7], group_size=2, batch_size=5)
    assert num_done_batches(batches, num_groups) == done


def test_the_first_batches_of_a_large_group_count_with_its_last() -> None:
    batches = plan_batches([3, 8], group_size=5, batch_size=2)
    assert [num_done_batches(batches, n) for n in (0, 1, 2)] == [(0, 0), (3, 1), (6, 2)]

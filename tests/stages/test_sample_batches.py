"""The batch plan: every completion once, whole groups, and what a later attempt must repeat."""

from __future__ import annotations

from halos_backend.stages.sample.batches import Row, num_done_batches, plan_batches
from hypothesis import given
from hypothesis import strategies as st

plans = st.tuples(
    st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 12)
)


@given(plans)
def test_every_completion_is_planned_once(plan: tuple[list[int], int, int]) -> None:
    lengths, group_size, batch_size = plan
    batches = plan_batches(lengths, group_size=group_size, batch_size=batch_size)
    rows = [row for batch in batches for row in batch.rows]
    wanted = {Row(index, k) for index in range(len(lengths)) for k in range(group_size)}
    assert len(rows) == len(wanted)
    assert set(rows) == wanted
    assert all(len(batch.rows) <= batch_size for batch in batches)


@given(plans)
def test_a_group_is_complete_after_the_batch_that_says_so(
    plan: tuple[list[int], int, int],
) -> None:
    lengths, group_size, batch_size = plan
    seen: dict[int, int] = {}
    complete: list[int] = []
    for batch in plan_batches(lengths, group_size=group_size, batch_size=batch_size):
        for row in batch.rows:
            seen[row.prompt_index] = seen.get(row.prompt_index, 0) + 1
        assert all(seen[index] == group_size for index in batch.groups)
        complete += batch.groups
    assert sorted(complete) == list(range(len(lengths)))


def test_prompts_of_like_length_share_a_batch_longest_first() -> None:
    batches = plan_batches([3, 9, 4, 8], group_size=2, batch_size=5)
    assert [batch.groups for batch in batches] == [(1, 3), (2, 0)]


def test_a_group_larger_than_a_batch_has_batches_of_its_own() -> None:
    batches = plan_batches([3, 9], group_size=3, batch_size=2)
    assert [[row.k for row in batch.rows] for batch in batches] == [[0, 1], [2], [0, 1], [2]]
    assert [batch.groups for batch in batches] == [(), (1,), (), (0,)]


def test_only_batches_whose_groups_are_all_there_need_no_repeat() -> None:
    whole = plan_batches([1] * 6, group_size=2, batch_size=4)  # two groups a batch
    assert [num_done_batches(whole, done) for done in range(7)] == [
        *((0, 0), (0, 0), (1, 2), (1, 2), (2, 4), (2, 4), (3, 6))
    ]
    split = plan_batches([1] * 2, group_size=3, batch_size=2)  # two batches a group
    assert [num_done_batches(split, done) for done in range(3)] == [(0, 0), (2, 1), (4, 2)]

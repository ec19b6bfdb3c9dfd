"""Feedback made of scored groups; every expected value is worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from halos_backend.config.schema import FeedbackSettings
from halos_backend.records import Group, PreferencePair, UnpairedFeedback
from halos_backend.stages.label.feedback import MadeFeedback, make_feedback, num_equal_groups
from halos_backend.stages.label.judge import FLOAT64_ROUNDING
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import TypeAdapter

from tests.support.label_fixtures import group, scored_group

settings_of: TypeAdapter[Any] = TypeAdapter(FeedbackSettings)


def made(groups: Sequence[Group], *, seed: int = 0, **settings: Any) -> MadeFeedback:
    return make_feedback(groups, settings_of.validate_python(settings), seed=seed)


def pair_names(feedback: MadeFeedback) -> list[tuple[str, str]]:
    return [
        (row.chosen.completion_id, row.rejected.completion_id)
        for row in feedback.rows
        if isinstance(row, PreferencePair)
    ]


def test_max_pairs_best_with_worst_of_each_prompt() -> None:
    groups = [scored_group("p", [0.5, 2.0, -1.0, 1.0]), scored_group("q", [3.0, 1.0])]
    feedback = made(groups, kind="pairwise", pairing="max")
    assert pair_names(feedback) == [("p-c1", "p-c2"), ("q-c0", "q-c1")]
    assert feedback.num_dropped == 0
    assert feedback.margin_mean == 2.5  # (3 + 2) / 2


def test_a_pair_keeps_the_whole_completions_and_their_rewards() -> None:
    source = scored_group("p", [0.5, 2.0])
    (pair,) = made([source], kind="pairwise").rows
    assert pair == PreferencePair(
        prompt_id="p",
        prompt=source.prompt,
        prompt_token_ids=source.prompt_token_ids,
        chosen=source.completions[1],
        rejected=source.completions[0],
        reward_chosen=2.0,
        reward_rejected=0.5,
    )


def test_max_takes_the_first_sampled_among_equals() -> None:
    feedback = made([scored_group("p", [1.0, 0.0, 1.0, 0.0])], kind="pairwise")
    assert pair_names(feedback) == [("p-c0", "p-c1")]


@pytest.mark.parametrize("pairing", ["max", "min", "random"])
def test_a_margin_of_the_threshold_is_enough_whatever_the_pairing(pairing: str) -> None:
    groups = [scored_group("at", [1.0, 0.5]), scored_group("under", [1.0, 0.75])]
    feedback = made(groups, kind="pairwise", pairing=pairing, threshold=0.5)
    assert pair_names(feedback) == [("at-c0", "at-c1")]
    assert feedback.num_dropped == 1


FLOAT32 = 2.0**-18
"""What a reward model's float32 explains, as a share."""


@pytest.mark.parametrize("pairing", ["max", "min", "random"])
def test_a_margin_within_the_judges_rounding_is_none(pairing: str) -> None:
    groups = [scored_group("noise", [1.0, 1.000001]), scored_group("real", [1.0, 1.00001])]
    settings = settings_of.validate_python({"kind": "pairwise", "pairing": pairing})
    feedback = make_feedback(groups, settings, seed=0, rounding=FLOAT32)
    assert pair_names(feedback) == [("real-c1", "real-c0")]
    assert feedback.num_dropped == 1


def test_min_takes_no_pair_that_rounding_alone_tells_apart() -> None:
    group = scored_group("p", [1.0, 1.000001, 1.5])
    settings = settings_of.validate_python({"kind": "pairwise", "pairing": "min"})
    feedback = make_feedback([group], settings, seed=0, rounding=FLOAT32)
    assert pair_names(feedback) == [("p-c2", "p-c1")]


def test_a_margin_that_rounding_puts_under_the_threshold_reaches_it() -> None:
    assert 0.9 - 0.8 < 0.1
    settings = settings_of.validate_python({"kind": "pairwise", "threshold": 0.1})
    group = scored_group("p", [0.9, 0.8])
    feedback = make_feedback([group], settings, seed=0, rounding=FLOAT64_ROUNDING)
    assert pair_names(feedback) == [("p-c0", "p-c1")]


@pytest.mark.parametrize("pairing", ["max", "min", "random"])
def test_the_same_completion_twice_makes_no_pair(pairing: str) -> None:
    """A function may give it two rewards."""
    one, other = scored_group("p", [1.0, 0.0]).completions
    same = replace(other, token_ids=one.token_ids)
    groups = [group("p", [one, same]), group("q", [one, other])]
    feedback = made(groups, kind="pairwise", pairing=pairing)
    assert [row.prompt_id for row in feedback.rows if isinstance(row, PreferencePair)] == ["q"]
    assert feedback.num_dropped == 1


def test_groups_that_rounding_alone_tells_apart_are_equal_and_counted() -> None:
    groups = [
        scored_group("noise", [1.0, 1.000001, 1.0, 1.0]),
        scored_group("real", [1.0, 1.00001, 1.0, 1.0]),
        scored_group("near zero", [0.000001, 0.0, None]),  # of rewards of about 1
        scored_group("large", [1000.0, 1000.001]),
        scored_group("one", [2.0, None]),
        scored_group("none", [None]),
    ]
    feedback = make_feedback(
        groups, settings_of.validate_python({"kind": "scalar"}), seed=0, rounding=FLOAT32
    )
    assert [row.prompt_id for row in feedback.rows] == ["real"]
    assert feedback.num_dropped == 5
    assert num_equal_groups(groups, FLOAT32) == 3
    assert num_equal_groups(groups, 0.0) == 0


def test_a_reward_that_rounding_puts_under_the_threshold_is_desirable() -> None:
    groups = [scored_group("p", [1.0, 0.999999, 0.5, 1.5])]
    for threshold in ("median", 1.0):
        settings = settings_of.validate_python({"kind": "binary", "threshold": threshold})
        feedback = make_feedback(groups, settings, seed=0, rounding=FLOAT32)
        assert desirable(feedback) == [True, True, False, True]
    noise = [scored_group("p", [1.0, 0.999999]), scored_group("q", [1.000001])]
    settings = settings_of.validate_python({"kind": "binary", "threshold": "mean"})
    assert make_feedback(noise, settings, seed=0, rounding=FLOAT32).num_dropped == 3


def test_equal_rewards_make_no_pair_and_are_counted() -> None:
    groups = [scored_group("p", [1.0, 1.0, 1.0]), scored_group("q", [0.0, 0.0])]
    for pairing, num_dropped in (("max", 2), ("min", 2), ("random", 2)):
        feedback = made(groups, kind="pairwise", pairing=pairing)
        assert (feedback.rows, feedback.num_dropped) == ((), num_dropped)
        assert feedback.margin_mean is None


def test_min_takes_the_closest_two_that_reach_the_threshold() -> None:
    # Margins: c0-c1 0.25, c0-c2 1, c0-c3 3, c1-c2 0.75, c1-c3 2.75, c2-c3 2.
    groups = [scored_group("p", [4.0, 3.75, 3.0, 1.0])]
    by_threshold = {
        threshold: pair_names(made(groups, kind="pairwise", pairing="min", threshold=threshold))
        for threshold in (0.0, 0.25, 0.5, 1.0, 2.5, 3.5)
    }
    assert by_threshold == {
        0.0: [("p-c0", "p-c1")],
        0.25: [("p-c0", "p-c1")],
        0.5: [("p-c1", "p-c2")],
        1.0: [("p-c0", "p-c2")],
        2.5: [("p-c1", "p-c3")],
        3.5: [],
    }


def test_min_never_pairs_equal_rewards() -> None:
    feedback = made([scored_group("p", [1.0, 1.0, 3.0])], kind="pairwise", pairing="min")
    assert pair_names(feedback) == [("p-c2", "p-c0")]


def test_min_breaks_ties_by_sampling_order() -> None:
    # Margins of 1: c0-c1, c0-c2, c1-c3, c2-c3; the earliest completion comes first.
    feedback = made([scored_group("p", [1.0, 2.0, 2.0, 3.0])], kind="pairwise", pairing="min")
    assert pair_names(feedback) == [("p-c1", "p-c0")]


def test_random_pairs_are_disjoint_and_one_may_be_left_over() -> None:
    source = scored_group("p", [0.0, 1.0, 2.0, 3.0, 4.0])
    feedback = made([source], kind="pairwise", pairing="random")
    used = [name for pair in pair_names(feedback) for name in pair]
    assert len(feedback.rows) == 2
    assert len(set(used)) == 4
    assert feedback.num_dropped == 0


def test_random_pairs_follow_the_seed_and_only_the_seed() -> None:
    first = scored_group("p", [float(reward) for reward in range(10)])
    second = scored_group("q", [float(reward) for reward in range(10)])
    together = pair_names(made([first, second], seed=1, kind="pairwise", pairing="random"))
    alone = pair_names(made([second], seed=1, kind="pairwise", pairing="random"))
    other = pair_names(made([second], seed=2, kind="pairwise", pairing="random"))
    assert together[5:] == alone
    assert alone != other
    assert [name.replace("p", "q") for name, _ in together[:5]] != [name for name, _ in alone]


def test_random_pairs_under_the_threshold_are_dropped() -> None:
    feedback = made(
        [scored_group("p", [0.0, 10.0, 0.0, 0.0])], kind="pairwise", pairing="random", threshold=5
    )
    assert [chosen for chosen, _ in pair_names(feedback)] == ["p-c1"]
    assert feedback.num_dropped == 1


def test_prompts_with_fewer_than_two_rewards_are_counted() -> None:
    groups = [scored_group("p", [None, 1.0]), scored_group("q", [None, None])]
    for pairing in ("max", "min", "random"):
        feedback = made(groups, kind="pairwise", pairing=pairing)
        assert (feedback.rows, feedback.num_dropped) == ((), 2)


def test_unscored_completions_are_in_no_pair() -> None:
    feedback = made([scored_group("p", [None, 1.0, None, 2.0])], kind="pairwise")
    assert pair_names(feedback) == [("p-c3", "p-c1")]


def desirable(feedback: MadeFeedback) -> list[bool]:
    return [row.is_desirable for row in feedback.rows if isinstance(row, UnpairedFeedback)]


def test_binary_thresholds() -> None:
    # Rewards 0, 1, 2, 9: mean 3, median 1.5.
    groups = [scored_group("p", [0.0, 1.0]), scored_group("q", [2.0, None, 9.0])]
    by_threshold = {
        threshold: desirable(made(groups, kind="binary", threshold=threshold))
        for threshold in ("mean", "median", 1.0, 10.0)
    }
    assert by_threshold == {
        "mean": [False, False, False, True],
        "median": [False, False, True, True],
        1.0: [False, True, True, True],
        10.0: [False, False, False, False],
    }
    assert made(groups, kind="binary", threshold="median").num_desirable == 2


def test_a_reward_at_the_threshold_is_desirable() -> None:
    groups = [scored_group("p", [1.0, 2.0, 3.0])]
    assert desirable(made(groups, kind="binary", threshold="mean")) == [False, True, True]


def test_a_binary_row_keeps_completion_and_reward() -> None:
    source = scored_group("p", [1.0, 3.0])
    row = made([source], kind="binary").rows[0]
    assert row == UnpairedFeedback(
        prompt_id="p",
        prompt=source.prompt,
        prompt_token_ids=source.prompt_token_ids,
        completion=source.completions[0],
        is_desirable=False,
        reward=1.0,
    )


def test_equal_rewards_are_no_binary_feedback_relative_to_themselves() -> None:
    groups = [scored_group("p", [0.1, 0.1]), scored_group("q", [0.1, None])]
    for threshold in ("mean", "median"):
        feedback = made(groups, kind="binary", threshold=threshold)
        assert (feedback.rows, feedback.num_dropped, feedback.num_desirable) == ((), 3, 0)
    assert desirable(made(groups, kind="binary", threshold=0.0)) == [True, True, True]


def test_scalar_feedback_is_groups_with_their_scored_completions() -> None:
    full, holed = scored_group("p", [1.0, 2.0, 2.0]), scored_group("q", [3.0, None, 5.0])
    feedback = made([full, holed], kind="scalar")
    assert feedback.rows[0] == full
    kept = feedback.rows[1]
    assert isinstance(kept, Group)
    assert kept.completions == (holed.completions[0], holed.completions[2])
    assert (kept.prompt_id, kept.prompt_token_ids) == ("q", holed.prompt_token_ids)
    assert feedback.num_dropped == 0


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [None, 2.0], [None, None], [1.0, None, 1.0]])
def test_groups_without_two_different_rewards_carry_no_advantage(
    rewards: list[float | None],
) -> None:
    feedback = made([scored_group("p", rewards)], kind="scalar")
    assert (feedback.rows, feedback.num_dropped) == ((), 1)


# Rewards on a coarse grid, so that ties and margins right at the threshold are common.
maybe_reward = st.none() | st.integers(-8, 8).map(lambda number: number / 4)
many_groups = st.lists(st.lists(maybe_reward, max_size=7), max_size=6)


@given(
    rewards=many_groups,
    pairing=st.sampled_from(["max", "min", "random"]),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
    seed=st.integers(0, 2**40),
)
def test_pairs_keep_to_the_threshold_and_every_count_adds_up(
    rewards: list[list[float | None]], pairing: str, threshold: float, seed: int
) -> None:
    groups = [scored_group(f"p{index}", row) for index, row in enumerate(rewards)]
    feedback = made(groups, seed=seed, kind="pairwise", pairing=pairing, threshold=threshold)
    for pair in feedback.rows:
        assert isinstance(pair, PreferencePair)
        margin = pair.reward_chosen - pair.reward_rejected
        assert margin > 0
        assert margin >= threshold
        assert pair.chosen.reward == pair.reward_chosen
        assert pair.rejected.reward == pair.reward_rejected
        assert pair.chosen.completion_id.startswith(f"{pair.prompt_id}-")
        assert pair.rejected.completion_id.startswith(f"{pair.prompt_id}-")
    names = [name for pair in pair_names(feedback) for name in pair]
    assert len(names) == len(set(names))
    num_scored = [sum(reward is not None for reward in row) for row in rewards]
    candidates = [count // 2 if pairing == "random" and count > 1 else 1 for count in num_scored]
    assert len(feedback.rows) + feedback.num_dropped == sum(candidates)


@given(rewards=many_groups, threshold=st.sampled_from(["mean", "median", 0.0, 1.5]))
def test_binary_counts_add_up(rewards: list[list[float | None]], threshold: str | float) -> None:
    groups = [scored_group(f"p{index}", row) for index, row in enumerate(rewards)]
    feedback = made(groups, kind="binary", threshold=threshold)
    num_scored = sum(reward is not None for row in rewards for reward in row)
    assert len(feedback.rows) + feedback.num_dropped == num_scored
    assert feedback.num_desirable == sum(desirable(feedback))


@given(rewards=many_groups)
def test_scalar_counts_add_up(rewards: list[list[float | None]]) -> None:
    groups = [scored_group(f"p{index}", row) for index, row in enumerate(rewards)]
    feedback = made(groups, kind="scalar")
    assert len(feedback.rows) + feedback.num_dropped == len(groups)
    for row in feedback.rows:
        assert isinstance(row, Group)
        assert len({entry.reward for entry in row.completions}) > 1
        assert all(entry.reward is not None for entry in row.completions)

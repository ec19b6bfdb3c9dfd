"""When a change of the mean reward is noise; the errors are those of statsmodels and scipy."""

from __future__ import annotations

from typing import Any

import pytest
from halos_backend.events.summaries import LabelSummary
from halos_backend.store.round_state import RoundState, StageState
from halos_backend.store.standard_error import (
    Reward,
    change_between,
    change_stderr,
    compared_rounds,
    may_share_prompts,
    pulls_of,
    reward_in,
    reward_of,
    significance_of,
    stderr_of,
)
from msgspec import Raw
from msgspec import json as msgspec_json

BEFORE = [("p", [1.0, 3.0]), ("q", [2.0, 4.0]), ("r", [6.0, 8.0]), ("s", [0.0, 2.0])]
AFTER = [("s", [1.0, 2.0]), ("p", [2.0, 3.0]), ("q", [4.0, 4.0]), ("r", [6.0, 9.0])]


def test_groups_of_one_size_have_the_standard_error_of_their_means() -> None:
    # scipy.stats.sem of the groups' means (2, 3, 7, 1) and (2.5, 4, 7.5, 1.5)
    assert stderr_of(pulls_of(BEFORE)) == pytest.approx(1.3149778198382918)
    assert stderr_of(pulls_of(AFTER)) == pytest.approx(1.3129959380490608)


def test_groups_of_other_sizes_are_clusters_of_one_regression() -> None:
    # statsmodels: OLS on a constant, cov_type "cluster"
    groups = [("a", [1.0, 2.0, 3.0]), ("b", [2.0, 2.0]), ("c", [5.0, 4.0, 6.0, 5.0])]

    assert stderr_of(pulls_of(groups)) == pytest.approx(1.11849399, abs=1e-8)


def test_prompts_of_both_rounds_are_paired() -> None:
    # scipy.stats.ttest_rel of the groups' means: t = 5 at a difference of .625
    assert change_stderr(pulls_of(BEFORE), pulls_of(AFTER)) == pytest.approx(0.125)


def test_other_prompts_are_independent() -> None:
    others = [(f"other {name}", rewards) for name, rewards in AFTER]

    # scipy.stats.ttest_ind with unequal variances
    found = change_stderr(pulls_of(BEFORE), pulls_of(others))
    assert found == pytest.approx(1.8582585934148133)


def test_unscored_completions_and_prompts_without_any_score_do_not_count() -> None:
    assert pulls_of([*BEFORE, ("none", [])]) == pulls_of(BEFORE)


@pytest.mark.parametrize("groups", [[], [("p", [1.0, 2.0])], [("p", [1.0]), ("p", [2.0])]])
def test_one_prompt_has_no_standard_error(groups: list[tuple[str, list[float]]]) -> None:
    assert stderr_of(pulls_of(groups)) is None
    assert change_stderr(pulls_of(groups), pulls_of(BEFORE)) is None


def test_equal_rewards_have_no_noise_at_all() -> None:
    assert stderr_of(pulls_of([("p", [0.1] * 3), ("q", [0.1] * 4)])) == 0.0


@pytest.mark.parametrize(
    ("change", "stderr", "verdict"),
    [
        (0.2, 0.1, "within noise"),
        (-0.2, 0.1, "within noise"),
        (0.201, 0.1, "more than noise"),
        (0.0, 0.0, "within noise"),
        (0.01, 0.0, "more than noise"),
        (9.0, None, None),
    ],
)
def test_noise_is_up_to_two_standard_errors(
    change: float, stderr: float | None, verdict: str | None
) -> None:
    assert significance_of(change, stderr) == verdict


def test_what_may_be_noise_has_no_direction() -> None:
    older = Reward(1, 0.5, 0.03)

    assert change_between(older, Reward(2, 0.6, 0.04)).direction == 0  # 2 * 0.05
    assert change_between(older, Reward(2, 0.61, 0.04)).direction == 1
    assert change_between(older, Reward(2, 0.39, 0.04)).direction == -1
    assert change_between(older, Reward(2, 0.9)).direction == 0
    assert change_between(older, Reward(2, 0.6, 0.04, {1: 0.01})).direction == 1


def test_a_summary_of_an_older_version_has_the_greatest_error_that_it_can_be() -> None:
    found = reward_in(LabelSummary(reward_mean=0.5, reward_std=0.3), 1, 10)

    assert found == Reward(1, 0.5, pytest.approx(0.1))  # as of 10 prompts: .3 / sqrt(9)
    assert reward_in(LabelSummary(reward_mean=0.5, reward_std=0.3), 1, 1) == Reward(1, 0.5)
    newer = LabelSummary(reward_mean=0.5, reward_std=0.3, reward_change_stderrs=[])
    assert reward_in(newer, 1, 10) == Reward(1, 0.5)
    assert reward_in(LabelSummary(), 1, 10) is None


@pytest.mark.parametrize(
    ("label", "is_share"),
    [
        # 3 of 4 are 1: a variance of 3/4 * 1/4, or 4/3 of that as of a sample
        (LabelSummary(reward_mean=0.75, reward_std=0.4330127, reward_min=0, reward_max=1), True),
        (
            LabelSummary(
                reward_mean=0.75, reward_std=0.5, reward_min=0, reward_max=1, num_completions=4
            ),
            True,
        ),
        (LabelSummary(reward_mean=0.75, reward_std=0.3, reward_min=0, reward_max=1), False),
        (LabelSummary(reward_mean=1.0, reward_std=0.0, reward_min=1, reward_max=1), True),
        (LabelSummary(reward_mean=0.5, reward_std=0.5, reward_min=0, reward_max=2), False),
        (LabelSummary(reward_mean=0.75, reward_std=0.4330127), False),
    ],
)
def test_rewards_of_nothing_but_0_and_1_are_a_share(label: LabelSummary, is_share: bool) -> None:
    found = reward_in(label, 1, 4)

    assert found is not None and found.is_share == is_share
    assert change_between(found, found).is_share == is_share


def round_of(number: int, *, cursor: int = 0, status: Any = "finished", **label: Any) -> RoundState:
    stage = StageState(
        stage="label",
        status=status,
        attempt=1,
        started_t=0.0,
        summary_json=Raw(msgspec_json.encode(label)),
    )
    return RoundState(
        round=number,
        cursor=cursor,
        num_prompts=4,
        settings={},
        started_t=0.0,
        stages={"label": stage},
    )


def test_a_round_is_compared_with_the_first_and_the_last_that_have_a_reward() -> None:
    first, second, last = (round_of(number, reward_mean=0.5) for number in (2, 3, 4))
    unscored = round_of(1, reward_mean=None)
    failed = round_of(5, status="failed", reward_mean=0.5)

    assert compared_rounds((unscored, first, second, last, failed)) == (first, last)
    assert compared_rounds((first, unscored)) == (first,)
    assert compared_rounds((unscored,)) == ()
    assert reward_of(failed) is None


def test_only_rounds_of_different_epochs_may_share_prompts() -> None:
    rounds = [round_of(1, cursor=0), round_of(2, cursor=4), round_of(3, cursor=10)]

    assert not may_share_prompts(rounds[0], rounds[1], num_prompts=10)
    assert may_share_prompts(rounds[0], rounds[2], num_prompts=10)
    assert not may_share_prompts(rounds[0], rounds[2], num_prompts=0)

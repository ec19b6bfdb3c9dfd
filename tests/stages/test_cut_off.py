"""Completions that were cut off: what they are worth to the feedback, and whether they give a loss.

Expected numbers are worked out by hand, losses by a plain computation over single sequences.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.records import (
    Completion,
    Feedback,
    Group,
    PreferencePair,
    UnpairedFeedback,
    read_rows,
)
from halos_backend.store.run_dir import AttemptDir
from msgspec.structs import replace

from tests.support import label_fixtures
from tests.support.label_fixtures import function_judge, label, run_stage_process, warnings
from tests.support.train_fixtures import (
    groups,
    load_plain,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    token_logps_alone,
    train,
    unpaired,
    weights_of,
)

WORTH = "def judge(prompt, completion, row):\n    return float(completion)\n"
"""The text of a completion is its reward."""


def completion(name: str, reward: float, *, is_cut_off: bool = False) -> Completion:
    made = label_fixtures.completion(name, str(reward), num_tokens=3)
    return replace(made, finish_reason="length") if is_cut_off else made


SAMPLED = [
    label_fixtures.group(
        "p",
        [
            completion("a", 1.0, is_cut_off=True),
            completion("b", 0.75),
            completion("c", 0.5),
            completion("d", 0.25, is_cut_off=True),
        ],
    )
]


def labelled(
    tmp_path: Path,
    rows: Sequence[Group] = SAMPLED,
    kind: str = "pairwise",
    max_new_tokens: int = 512,
    **settings: Any,
) -> tuple[Path, dict[str, Any], list[Any]]:
    """The attempt, its summary and its feedback."""
    (tmp_path / "my_judge.py").write_text(WORTH)
    path = label_fixtures.make_attempt(
        tmp_path / "attempt",
        rows,
        function_judge(tmp_path / "my_judge.py"),
        feedback={"kind": kind},
        label=settings,
        sample={"max_new_tokens": max_new_tokens},
    )
    summary = label(path).summary.as_json()
    return path, summary, list(read_rows(AttemptDir(path).feedback, Feedback))


def test_by_default_what_was_cut_off_is_worth_what_the_judge_says(tmp_path: Path) -> None:
    _, summary, (pair,) = labelled(tmp_path)
    assert (pair.chosen.completion_id, pair.reward_chosen) == ("a", 1.0)
    assert (pair.rejected.completion_id, pair.reward_rejected) == ("d", 0.25)
    assert summary["num_cut_off"] == 2
    assert not {"num_cut_off_penalized", "num_cut_off_dropped"} & set(summary)


def test_a_penalty_is_what_training_sees_less_than_the_judge_said(tmp_path: Path) -> None:
    path, summary, (pair,) = labelled(tmp_path, cut_off="penalty", cut_off_penalty=0.5)
    # a: 1 - 0.5, b: 0.75, c: 0.5, d: 0.25 - 0.5
    assert (pair.chosen.completion_id, pair.reward_chosen) == ("b", 0.75)
    assert (pair.rejected.completion_id, pair.reward_rejected) == ("d", -0.25)
    assert (pair.rejected.reward, pair.rejected.penalty) == (-0.25, None)
    (scored,) = read_rows(AttemptDir(path).scores, Group)
    assert [each.reward for each in scored.completions] == [1.0, 0.75, 0.5, 0.25]
    assert [each.penalty for each in scored.completions] == [0.5, None, None, 0.5]
    assert summary["reward_mean"] == 0.625
    assert summary["reward_mean_penalized"] == 0.375
    assert (summary["num_cut_off"], summary["num_cut_off_penalized"]) == (2, 2)
    assert summary["margin_mean"] == 1.0


def test_dropped_completions_are_scored_and_in_no_feedback(tmp_path: Path) -> None:
    path, summary, (pair,) = labelled(tmp_path, cut_off="drop")
    assert (pair.chosen.completion_id, pair.rejected.completion_id) == ("b", "c")
    assert label_fixtures.rewards_of(path) == [1.0, 0.75, 0.5, 0.25]
    assert summary["reward_mean"] == 0.625
    assert summary["num_cut_off_dropped"] == 2


def test_binary_thresholds_are_of_the_rewards_that_training_sees(tmp_path: Path) -> None:
    rows = labelled(tmp_path, kind="binary", cut_off="penalty", cut_off_penalty=0.5)[2]
    # 0.5, 0.75, 0.5, -0.25: the median is 0.5
    assert [(row.reward, row.is_desirable) for row in rows] == [
        (0.5, True), (0.75, True), (0.5, True), (-0.25, False)
    ]  # fmt: skip


def test_whole_groups_keep_penalized_rewards_and_lose_dropped_completions(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (row,) = labelled(tmp_path / "one", kind="scalar", cut_off="penalty", cut_off_penalty=0.5)[2]
    assert [each.reward for each in row.completions] == [0.5, 0.75, 0.5, -0.25]
    (row,) = labelled(tmp_path / "two", kind="scalar", cut_off="drop")[2]
    assert [each.reward for each in row.completions] == [0.75, 0.5]


def long_completion(name: str, num_tokens: int, *, is_cut_off: bool = False) -> Completion:
    made = label_fixtures.completion(name, "1.0", num_tokens=num_tokens)
    return replace(made, finish_reason="length") if is_cut_off else made


OF_LENGTHS = [
    label_fixtures.group(
        "p",
        [
            long_completion("a", 4),
            long_completion("b", 6),
            long_completion("c", 7),
            long_completion("d", 10),
            long_completion("e", 10, is_cut_off=True),
        ],
    )
]


def test_the_last_tokens_before_the_longest_cost_more_and_more(tmp_path: Path) -> None:
    path, summary, (row,) = labelled(
        tmp_path, OF_LENGTHS, "scalar", overlong_tokens=4, overlong_penalty=2.0, max_new_tokens=10
    )
    # 2 (length - 6) / 4, from 0 at 6 tokens to 2 at 10
    assert [each.reward for each in row.completions] == [1.0, 1.0, 0.5, -1.0, -1.0]
    (scored,) = read_rows(AttemptDir(path).scores, Group)
    assert [each.penalty for each in scored.completions] == [None, None, 0.5, 2.0, 2.0]
    assert (summary["num_overlong"], summary["num_cut_off"]) == (3, 1)
    assert summary["reward_mean"] == 1.0
    assert summary["reward_mean_penalized"] == pytest.approx(0.1)
    assert "num_cut_off_penalized" not in summary


def test_a_long_completion_that_was_cut_off_loses_both_penalties(tmp_path: Path) -> None:
    path, summary, _ = labelled(
        tmp_path, OF_LENGTHS, "scalar", overlong_tokens=4, cut_off="penalty", cut_off_penalty=0.25,
        max_new_tokens=10,
    )  # fmt: skip
    (scored,) = read_rows(AttemptDir(path).scores, Group)
    assert [each.penalty for each in scored.completions] == [None, None, 0.25, 1.0, 1.25]
    assert (summary["num_overlong"], summary["num_cut_off_penalized"]) == (3, 1)


def test_long_completions_are_penalized_and_those_that_were_cut_off_dropped(tmp_path: Path) -> None:
    _, _, (row,) = labelled(
        tmp_path, OF_LENGTHS, "scalar", overlong_tokens=4, cut_off="drop", max_new_tokens=10
    )
    assert [each.reward for each in row.completions] == [1.0, 1.0, 0.75, 0.0]


def test_what_could_not_be_scored_has_no_penalty(tmp_path: Path) -> None:
    said_nothing = replace(completion("a", 0.0, is_cut_off=True), text="?")
    rows = [label_fixtures.group("p", [said_nothing, completion("b", 1.0)])]
    path, summary, _ = labelled(tmp_path, rows, cut_off="penalty")
    assert label_fixtures.scores(path)[0].completions[0].penalty is None
    assert (summary["num_cut_off"], summary["num_cut_off_penalized"]) == (1, 0)
    assert summary["reward_mean_penalized"] == 1.0


def test_feedback_that_is_all_dropped_says_that_completions_were_cut_off(tmp_path: Path) -> None:
    rows = [label_fixtures.group("p", [completion(n, 1.0, is_cut_off=True) for n in "ab"])]
    path, summary, feedback = labelled(tmp_path, rows, cut_off="drop")
    assert feedback == []
    assert summary["num_feedback"] == 0
    assert "or completions were cut off" in warnings(path)[0]


DIES_ONCE = f"""
import os, pathlib, signal
{WORTH.replace("def judge", "def worth")}
def judge(prompt, completion, row):
    mark = pathlib.Path(__file__).with_name("died")
    if completion == "0.5" and not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    return worth(prompt, completion, row)
"""


def test_a_killed_stage_takes_over_the_judges_rewards_and_penalizes_them_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "my_judge.py").write_text(DIES_ONCE)
    judge = function_judge(tmp_path / "my_judge.py")
    settings = {"cut_off": "penalty", "cut_off_penalty": 0.5}
    first = label_fixtures.make_attempt(tmp_path / "first", SAMPLED, judge, label=settings)
    assert run_stage_process(first) == -signal.SIGKILL
    second = label_fixtures.make_attempt(
        tmp_path / "second", SAMPLED, judge, label=settings, earlier=[first]
    )
    label(second)
    (pair,) = read_rows(AttemptDir(second).feedback, Feedback)
    assert (pair.reward_chosen, pair.reward_rejected) == (0.75, -0.25)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


def cut_off(row: Any) -> Any:
    """The row with its (first) completion cut off."""
    match row:
        case PreferencePair():
            return replace(row, rejected=replace(row.rejected, finish_reason="length"))
        case UnpairedFeedback():
            return replace(row, completion=replace(row.completion, finish_reason="length"))


ROWS: dict[str, Any] = {
    "dpo": pairs(6), "cdpo": pairs(6), "ipo": pairs(6), "simpo": pairs(6), "slic": pairs(6),
    "robust": pairs(6), "exo": pairs(6), "apo_zero": pairs(6), "apo_down": pairs(6),
    "sppo": pairs(6), "bco": pairs(6), "bradley_terry": pairs(6), "kto": unpaired(6),
    "sft": unpaired(6), "csft": unpaired(6),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(ROWS))
def test_a_masked_completion_leaves_the_round_as_if_its_row_were_not_there(
    kind: str, policy: Path, tmp_path: Path
) -> None:
    rows = ROWS[kind]
    shared: dict[str, Any] = {
        "model": policy, "reference": policy, "loss": {"kind": kind}, "batch_size": 2,
        "microbatch_tokens": 64,
    }  # fmt: skip
    with_cut_off = [cut_off(rows[1]), *rows[2:4], cut_off(rows[4]), *rows[5:]]
    masked = make_attempt(tmp_path / "masked", with_cut_off, mask_cut_off=True, **shared)
    without = make_attempt(tmp_path / "without", [*rows[2:4], *rows[5:]], **shared)
    summary = train(masked)
    train(without)
    assert summary["num_masked"] == 2
    assert metrics(masked)[1]["loss"] == metrics(without)[1]["loss"]
    found, expected = weights_of(masked.checkpoint), weights_of(without.checkpoint)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_pair_gives_each_unpaired_loss_its_completion_that_ended(
    policy: Path, tmp_path: Path
) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", [cut_off(row) for row in pairs(3)], mask_cut_off=True,
        model=policy, reference=policy, loss={"kind": "kto"}, batch_size=8,
    )  # fmt: skip
    summary = train(attempt)
    assert (summary["num_examples"], summary["num_masked"]) == (3, 3)


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
@pytest.mark.parametrize("microbatch_tokens", [8192, 20])
def test_grpo_counts_a_masked_reward_among_its_group_and_takes_no_loss_of_it(
    aggregation: str, microbatch_tokens: int, policy: Path, tmp_path: Path
) -> None:
    """As TRL's GRPO with mask_truncated_completions: advantages over whole groups, then a mean over
    the tokens (or completions) that are left.
    """
    rows = [
        replace(
            row,
            completions=(replace(row.completions[0], finish_reason="length"), *row.completions[1:]),
        )
        for row in groups(3)
    ]
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, reference=policy, mask_cut_off=True,
        loss={"kind": "grpo", "beta": 0.0, "aggregation": aggregation}, batch_size=12,
        microbatch_tokens=microbatch_tokens,
    )  # fmt: skip
    summary = train(attempt)
    token_losses = []
    for row in rows:
        rewards = torch.tensor([each.reward for each in row.completions], dtype=torch.float64)
        advantages = (rewards - rewards.mean()) / rewards.std(correction=0)
        token_losses += [
            -advantage.repeat(len(each.token_ids))
            for advantage, each in zip(advantages, row.completions, strict=True)
            if each.finish_reason == "stop"
        ]
    expected = (
        torch.cat(token_losses).mean()
        if aggregation == "token"
        else torch.stack([losses.mean() for losses in token_losses]).mean()
    )
    # the tolerance leaves room for what is added to the deviation
    assert metrics(attempt)[1]["loss"] == pytest.approx(expected.item(), abs=2e-3)
    assert (summary["num_examples"], summary["num_masked"]) == (9, 3)


def test_a_round_whose_feedback_is_all_masked_ends_untrained(policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", [cut_off(row) for row in pairs(2)], mask_cut_off=True,
        model=policy, reference=policy, loss={"kind": "dpo"},
    )  # fmt: skip
    summary = train(attempt)
    assert summary["num_steps"] == 0
    assert summary["untrained"].startswith("all feedback is of completions that were cut off")
    assert not attempt.checkpoint.exists()


def test_a_round_of_sft_without_a_desirable_completion_ends_untrained(
    policy: Path, tmp_path: Path
) -> None:
    rows = [replace(row, is_desirable=False) for row in unpaired(3)]
    attempt = make_attempt(tmp_path / "attempt", rows, model=policy, loss={"kind": "sft"})
    assert train(attempt)["untrained"].startswith("no completion is desirable")


def test_what_is_cut_off_is_trained_on_unless_it_is_masked(policy: Path, tmp_path: Path) -> None:
    rows = [cut_off(row) for row in unpaired(3)]
    attempt = make_attempt(tmp_path / "attempt", rows, model=policy, loss={"kind": "sft"})
    summary = train(attempt)
    assert summary["num_examples"] == 2
    assert "num_masked" not in summary
    ours = load_plain(policy)
    logps = [
        token_logps_alone(ours, row.prompt_token_ids, row.completion.token_ids)
        for row in rows
        if row.is_desirable
    ]
    loss = metrics(attempt)[1]["loss"]
    assert loss == pytest.approx(-torch.cat(logps).mean().item(), abs=1e-5)
    assert math.isfinite(loss)

"""`plan` for the closing round, which scores the run's result; and what the state makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    AbortRequested,
    PauseRequested,
    RoundFinished,
    RoundStarted,
    RunCompleted,
    RunEvent,
    RunExtended,
    RunPaused,
    RunResumed,
    SettingsChanged,
    StageFailed,
)
from halos_backend.store.state import RunState, fold
from halos_backend.supervisor.plan import (
    AbortRun,
    Action,
    FinishRound,
    FinishRun,
    PauseRun,
    StartRound,
    StartStage,
    best_checkpoint_round,
    plan,
    scoring_size,
)
from msgspec.structs import replace

from tests.support.journals import (
    created,
    failed,
    finished,
    round_started,
    settings,
    started,
    supervised,
    whole_round,
)

ONE = settings(num_rounds=1)
DONE = "all 1 rounds are done"


def state_of(
    *events: RunEvent, made: RunSettings = ONE, num_prompts: int = 12, num_held_out: int = 0
) -> RunState:
    first = replace(created(made, num_prompts=num_prompts), num_held_out=num_held_out)
    return fold([first, supervised(), *events])


def next_action(*events: RunEvent, made: RunSettings = ONE, **changes: Any) -> Action:
    (action,) = plan(state_of(*events, made=made, **changes), made, now=100.0)
    return action


def closing_started(number: int = 2, *, made: RunSettings = ONE) -> RoundStarted:
    return replace(round_started(number, made), closing="next")


def closing_finished(number: int = 2, *, unscored: str | None = None) -> RoundFinished:
    return RoundFinished(t=6.0, round=number, checkpoint=None, metrics={}, unscored=unscored)


SAMPLED = [*whole_round(1, ONE), closing_started(), started(2, "sample"), finished(2, "sample")]
SCORED = [
    *SAMPLED, started(2, "label"), finished(2, "label", reward_mean=0.7), closing_finished()
]  # fmt: skip
COMPLETED = [*SCORED, RunCompleted(t=7.0, reason=DONE)]


def test_the_last_policy_is_scored_on_the_prompts_that_come_next() -> None:
    assert next_action(*whole_round(1, ONE)) == StartRound(2, 4, 4, closing="next")
    assert next_action(*whole_round(1, ONE), num_prompts=6) == StartRound(2, 4, 2, closing="next")


def test_held_out_prompts_go_before_those_of_the_run() -> None:
    expected = StartRound(2, 0, 9, closing="held_out")
    assert next_action(*whole_round(1, ONE), num_held_out=9) == expected


@pytest.mark.parametrize(
    ("loop", "num_prompts"),
    [({"score_final": False}, 12), ({}, 4), ({"num_epochs": 3}, 4)],
)
def test_nothing_is_scored_where_it_is_off_or_every_prompt_was_taken(
    loop: dict[str, Any], num_prompts: int
) -> None:
    made = settings(num_rounds=1, **loop)
    assert next_action(*whole_round(1, made), made=made, num_prompts=num_prompts) == FinishRun(DONE)


def test_true_scores_on_prompts_of_earlier_rounds_rather_than_not_at_all() -> None:
    made = settings(num_rounds=1, score_final=True)
    expected = StartRound(2, 4, 4, closing="next")
    assert next_action(*whole_round(1, made), made=made, num_prompts=4) == expected


def test_a_spent_budget_leaves_prompts_to_score_on() -> None:
    made = settings(num_rounds=None, num_prompts=4)
    assert next_action(*whole_round(1, made), made=made) == StartRound(2, 4, 4, closing="next")


def test_a_run_without_a_trained_policy_has_nothing_to_score() -> None:
    assert next_action(*whole_round(1, ONE, trained=False)) == FinishRun(DONE)


def test_a_reward_model_is_not_sampled_from() -> None:
    made = settings("bradley_terry", num_rounds=1)
    assert next_action(*whole_round(1, made), made=made) == FinishRun(DONE)


def test_the_closing_round_samples_and_labels_and_trains_nothing() -> None:
    assert next_action(*SAMPLED[:-2]) == StartStage(2, "sample", 1)
    assert next_action(*SAMPLED) == StartStage(2, "label", 1)
    assert next_action(*SCORED[:-1]) == FinishRound(2)
    assert next_action(*SCORED) == FinishRun(DONE)
    assert plan(state_of(*COMPLETED), ONE, now=100.0) == ()


def test_a_closing_round_is_none_of_the_runs_rounds() -> None:
    state = state_of(*COMPLETED)
    assert (state.num_rounds, state.cursor, state.round_at_hand) == (1, 4, 2)
    assert state.closing is not None
    assert state.closing.stages["label"].summary.reward_mean == 0.7


def test_a_stage_that_goes_on_failing_ends_the_scoring_and_not_the_run() -> None:
    again = failed(2, "label", 2)
    barren = [*SAMPLED, started(2, "label"), failed(2, "label"), started(2, "label", 2), again]
    assert next_action(*barren) == StartStage(2, "label", 3)
    third = [*barren, started(2, "label", 3), failed(2, "label", 3, reason="the judge broke")]
    why = "label: the judge broke (3 attempts without progress)"
    assert next_action(*third) == FinishRound(2, unscored=why)
    ended = [*third, closing_finished(unscored=why)]
    assert next_action(*ended) == FinishRun(f"{DONE}; the final policy has no score: {why}")


def test_what_would_only_happen_again_ends_the_scoring_at_once() -> None:
    full = StageFailed(
        t=5.0, round=2, stage="sample", attempt=1, reason="the GPU is full", exit_code=1,
        last_lines=[], cause="out_of_memory",
    )  # fmt: skip
    events = [*whole_round(1, ONE), closing_started(), started(2, "sample"), full]
    assert next_action(*events) == FinishRound(2, unscored="sample: the GPU is full")


def test_a_pause_and_an_abort_come_before_the_scoring() -> None:
    pause, abort = PauseRequested(t=6.5, request_id="r"), AbortRequested(t=6.5, request_id="r")
    assert next_action(*whole_round(1, ONE), pause) == PauseRun("by its owner, after round 1")
    assert next_action(*whole_round(1, ONE), replace(abort, when="round")) == AbortRun()
    at_stage = replace(pause, at="stage")
    why = "by its owner, while it scored the final policy"
    assert next_action(*SAMPLED, at_stage) == PauseRun(why)
    goes_on = [*SAMPLED, at_stage, RunPaused(t=7.0, reason=why), RunResumed(t=8.0)]
    assert next_action(*goes_on) == StartStage(2, "label", 1)


def test_a_run_that_pauses_after_each_round_does_not_wait_for_its_scoring() -> None:
    made = settings(num_rounds=1, pause_after_each_round=True)
    action = next_action(*whole_round(1, made), made=made)
    assert action == StartRound(2, 4, 4, closing="next")


EXTENDED = RunExtended(t=8.0, request_id="e", num_rounds=2, changes={"loop.num_rounds": (1, 2)})
TWO = settings(num_rounds=2)


def test_the_round_after_an_extension_takes_the_place_and_the_prompts_of_the_closing_one() -> None:
    state = state_of(*COMPLETED, EXTENDED)
    assert RunSettings.model_validate(state.settings_of(2)).loop.num_rounds == 2
    assert plan(state, TWO, now=100.0) == (StartRound(2, 4, 4),)
    begun = fold([round_started(2, TWO)], state)
    assert (begun.num_rounds, begun.closing, begun.cursor) == (2, None, 8)
    assert plan(begun, TWO, now=100.0) == (StartStage(2, "sample", 1),)


def test_rounds_that_are_added_while_the_result_is_scored_come_at_once() -> None:
    more = SettingsChanged(t=6.0, request_id="s", from_round=2, changes={"loop.num_rounds": (1, 2)})
    state = state_of(*SAMPLED, more)
    assert plan(state, TWO, now=100.0) == (StartRound(2, 4, 4),)


def test_a_retry_goes_on_with_a_scoring_that_failed() -> None:
    over = [
        *SAMPLED, started(2, "label"), failed(2, "label"), closing_finished(unscored="label: no"),
        RunCompleted(t=7.0, reason=DONE), RunResumed(t=8.0),
    ]  # fmt: skip
    assert next_action(*over) == StartStage(2, "label", 2)


def test_the_score_of_the_last_policy_tells_which_checkpoint_is_best() -> None:
    two = [
        *whole_round(1, TWO, reward_mean=0.1), *whole_round(2, TWO, reward_mean=0.5),
        closing_started(3, made=TWO), started(3, "sample"), finished(3, "sample"),
        started(3, "label"), finished(3, "label", reward_mean=0.4),
    ]  # fmt: skip
    assert best_checkpoint_round(state_of(*two, made=TWO)) == 1
    better = [*two[:-1], finished(3, "label", reward_mean=0.6)]
    assert best_checkpoint_round(state_of(*better, made=TWO)) == 2
    held_out = [replace(e, closing="held_out") if e is two[-5] else e for e in better]
    assert best_checkpoint_round(state_of(*held_out, made=TWO)) == 1


def test_rewards_of_another_judge_than_the_newest_make_no_checkpoint_the_best() -> None:
    other = TWO.model_copy(
        update={
            "label": TWO.label.model_copy(
                update={"judge": TWO.label.judge.model_copy(update={"function": "other.py:f"})}
            )
        }
    )
    # round 2's completions, of round 1's checkpoint, earned 9 of the old judge
    rounds = [
        *whole_round(1, TWO, reward_mean=1.0), *whole_round(2, TWO, reward_mean=9.0),
        *whole_round(3, other, reward_mean=0.3), *whole_round(4, other, reward_mean=0.2),
    ]  # fmt: skip
    assert best_checkpoint_round(state_of(*rounds, made=TWO)) == 2


def test_no_reward_model_is_the_best_by_what_the_policy_earned() -> None:
    made = settings("bradley_terry", num_rounds=3)
    rounds = [*whole_round(1, made, reward_mean=0.1), *whole_round(2, made, reward_mean=0.5)]
    assert best_checkpoint_round(state_of(*rounds, made=made)) is None


def test_scoring_takes_no_more_than_a_rounds_prompts() -> None:
    assert scoring_size(ONE, cursor=4, num_prompts=1000) == 4
    assert scoring_size(ONE, cursor=998, num_prompts=1000) == 2
    assert scoring_size(ONE, cursor=1000, num_prompts=1000) == 0

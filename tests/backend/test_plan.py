"""`plan`: what comes next, for every state a run can be in."""

from __future__ import annotations

from typing import Any

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    AbortRequested,
    RequestRejected,
    RunAborted,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
)
from halos_backend.store.state import fold
from halos_backend.supervisor.plan import (
    AbortRun,
    Action,
    FailRun,
    FinishRound,
    FinishRun,
    Prune,
    StartRound,
    StartStage,
    StopStage,
    Wait,
    plan,
    round_sizes,
    total_prompts,
)
from halos_backend.supervisor.retention import Prunable
from msgspec.structs import replace

from tests.backend.journals import (
    created,
    eventful_journal,
    failed,
    finished,
    round_finished,
    round_started,
    settings,
    started,
    supervised,
    whole_round,
)

DPO = settings()


def next_actions(
    *events: RunEvent, made: RunSettings = DPO, num_prompts: int = 12, now: float = 100.0
) -> tuple[Action, ...]:
    state = fold([created(made, num_prompts=num_prompts), *events])
    return plan(state, made, now)


def test_nothing_happens_before_a_supervisor_started() -> None:
    assert next_actions() == ()


def test_the_first_round_takes_the_first_prompts() -> None:
    assert next_actions(supervised()) == (StartRound(round=1, cursor=0, num_prompts=4),)


def test_the_stages_of_a_round_follow_each_other() -> None:
    begun: list[RunEvent] = [supervised(), round_started(1, DPO)]
    sampled: list[RunEvent] = [*begun, started(1, "sample"), finished(1, "sample")]
    labelled: list[RunEvent] = [*sampled, started(1, "label"), finished(1, "label")]
    trained: list[RunEvent] = [*labelled, started(1, "train"), finished(1, "train")]

    assert next_actions(*begun) == (StartStage(1, "sample", 1),)
    assert next_actions(*sampled) == (StartStage(1, "label", 1),)
    assert next_actions(*labelled) == (StartStage(1, "train", 1),)
    assert next_actions(*trained) == (FinishRound(1),)


def test_a_running_stage_is_waited_for() -> None:
    begun: list[RunEvent] = [supervised(), round_started(1, DPO), started(1, "sample")]

    assert next_actions(*begun) == (Wait(),)


def test_the_next_round_goes_on_where_the_last_one_ended() -> None:
    events: list[RunEvent] = [supervised(), *whole_round(1, DPO)]

    assert next_actions(*events) == (StartRound(round=2, cursor=4, num_prompts=4),)


def test_a_failed_stage_fails_the_run_and_is_tried_again_when_resumed() -> None:
    events: list[RunEvent] = [
        supervised(),
        round_started(1, DPO),
        started(1, "sample"),
        failed(1, "sample"),
    ]
    assert next_actions(*events) == (FailRun("broken"),)

    events.append(RunFailed(t=7.0, reason="broken"))
    assert next_actions(*events) == ()

    events += [supervised(2), RunResumed(t=8.0)]
    assert next_actions(*events) == (StartStage(1, "sample", 2),)

    events += [started(1, "sample", 2), failed(1, "sample", 2), supervised(3), RunResumed(t=9.0)]
    assert next_actions(*events) == (StartStage(1, "sample", 3),)


def test_a_train_stage_whose_checkpoint_was_found_damaged_is_tried_again() -> None:
    *trained, _ = whole_round(1, DPO)
    events: list[RunEvent] = [supervised(), *trained, failed(1, "train", reason="damaged")]

    assert next_actions(*events) == (FailRun("damaged"),)
    assert next_actions(*events, RunResumed(t=9.0)) == (StartStage(1, "train", 2),)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({"num_feedback": 0}, "no feedback is left"),
        ({"num_feedback": 0, "num_unscored": 8}, "no completion could be scored"),
    ],
)
def test_a_round_without_feedback_ends_untrained_and_says_why(
    label: dict[str, Any], reason: str
) -> None:
    *labelled, _ = whole_round(1, DPO, trained=False)
    labelled[-1] = finished(1, "label", **label)

    (action,) = next_actions(supervised(), *labelled)

    assert isinstance(action, FinishRound)
    assert action.untrained is not None
    assert action.untrained.startswith(reason)


def test_the_round_after_an_untrained_one_starts() -> None:
    events: list[RunEvent] = [supervised(), *whole_round(1, DPO, trained=False)]

    assert next_actions(*events) == (StartRound(round=2, cursor=4, num_prompts=4),)


@pytest.mark.parametrize(
    ("loop", "num_prompts", "sizes", "reason"),
    [
        ({"num_rounds": 2}, 100, [4, 4], "all 2 rounds are done"),
        ({"num_rounds": None, "num_prompts": 10}, 100, [4, 4, 2], "the prompt budget is spent"),
        ({"num_rounds": None, "num_prompts": 99}, 6, [4, 2], "no prompts are left"),
        ({"num_rounds": None}, 6, [4, 2], "no prompts are left"),
        ({"num_rounds": None, "num_epochs": 2}, 6, [4, 2, 4, 2], "no prompts are left"),
        ({"num_rounds": None, "num_epochs": 2}, 3, [3, 3], "no prompts are left"),
        ({"num_rounds": 9}, 6, [4, 2], "no prompts are left"),
        ({"num_rounds": None, "num_prompts": 6}, 6, [4, 2], "the prompt budget is spent"),
    ],
)
def test_rounds_end_with_rounds_budget_or_prompts(
    loop: dict[str, Any], num_prompts: int, sizes: list[int], reason: str
) -> None:
    made = settings(**loop)
    state = fold([created(made, num_prompts=num_prompts), supervised()])
    taken: list[int] = []
    while isinstance(action := plan(state, made)[0], StartRound):
        assert action.round == len(taken) + 1
        assert action.cursor == sum(taken)
        taken.append(action.num_prompts)
        _, *rest = whole_round(action.round, made, trained=False)
        begun = round_started(action.round, made, cursor=action.cursor)
        state = fold([replace(begun, num_prompts=action.num_prompts), *rest], state)

    assert taken == sizes
    assert action == FinishRun(reason)
    assert round_sizes(made, num_prompts) == sizes


@pytest.mark.parametrize(
    ("loop", "total"),
    [
        ({"num_rounds": 3}, 12),
        ({"num_rounds": 2}, 8),
        ({"num_rounds": None}, 12),
        ({"num_rounds": None, "num_epochs": 3}, 36),
        ({"num_rounds": None, "num_epochs": 3, "num_prompts": 30}, 30),
        ({"num_rounds": 1, "num_epochs": 3, "num_prompts": 30}, 4),
    ],
)
def test_the_prompt_budget_is_the_smallest_limit(loop: dict[str, Any], total: int) -> None:
    assert total_prompts(settings(**loop), 12) == total


def test_the_prompt_budget_is_never_a_denominator_of_zero() -> None:
    assert total_prompts(DPO, 0) == 1


def test_an_abort_stops_what_runs_and_then_the_run() -> None:
    abort = AbortRequested(t=6.0, request_id="r")
    running: list[RunEvent] = [supervised(), round_started(1, DPO), started(1, "sample"), abort]
    assert next_actions(*running) == (StopStage(1, "sample"),)

    stopped: list[RunEvent] = [*running, failed(1, "sample", reason="aborted")]
    assert next_actions(*stopped) == (AbortRun(),)
    assert next_actions(*stopped, RunAborted(t=7.0, request_id="r")) == ()


def test_an_abort_between_stages_ends_the_run_at_once() -> None:
    events: list[RunEvent] = [
        supervised(),
        round_started(1, DPO),
        started(1, "sample"),
        finished(1, "sample"),
    ]

    assert next_actions(*events, AbortRequested(t=6.0, request_id="r")) == (AbortRun(),)


@pytest.mark.parametrize(
    "end",
    [
        RunPaused(t=9.0, reason="interrupted"),
        RunFailed(t=9.0, reason="broken"),
        RunAborted(t=9.0, request_id="r"),
        RunCompleted(t=9.0, reason="done"),
    ],
)
def test_a_run_that_stopped_plans_nothing(end: RunEvent) -> None:
    assert next_actions(supervised(), *whole_round(1, DPO), end) == ()


def test_a_rejected_request_changes_nothing_but_the_time() -> None:
    events = [created(DPO), supervised(), *whole_round(1, DPO)]
    rejected = RequestRejected(t=99.0, request_id="", reason="it is no request")

    before, after = fold(events), fold([*events, rejected])

    assert after.updated_t == 99.0
    assert plan(before, DPO) == plan(after, DPO)


def test_pruning_comes_before_the_next_round() -> None:
    events: list[RunEvent] = [supervised(), *whole_round(1, DPO), *whole_round(2, DPO)]

    assert next_actions(*events) == (
        Prune((Prunable(1, "rounds/0001/train/attempt_1/trainer_state"),)),
    )


def test_no_prefix_of_a_journal_names_a_finished_stage_or_round_again() -> None:
    events = eventful_journal(DPO)
    for length in range(len(events) + 1):
        state = fold(events[:length])
        for action in plan(state, DPO):
            match action:
                case StartStage(round=round, stage=stage, attempt=attempt):
                    known = state.rounds[round - 1].stages.get(stage)
                    assert known is None or known.status == "failed"
                    assert attempt == (1 if known is None else known.attempt + 1)
                case FinishRound(round=round):
                    assert state.rounds[round - 1].finished_t is None
                case StartRound(round=round, cursor=cursor):
                    assert round == len(state.rounds) + 1
                    assert cursor == state.cursor
                case _:
                    pass


def test_the_recorded_journal_ends_completed_with_every_attempt_counted() -> None:
    state = fold(eventful_journal(DPO))

    assert state.status == "completed"
    assert [round.stages["label"].attempt for round in state.rounds] == [2, 1, 1]
    assert [round.stages["sample"].attempt for round in state.rounds] == [1, 2, 1]
    assert state.generation == 3
    assert state.cursor == 12


def test_events_in_an_impossible_order_never_raise() -> None:
    """A journal is read whatever its order; what is about an unknown round changes nothing."""
    events = eventful_journal(DPO)
    for skip in range(len(events)):
        plan(fold(events[:skip] + events[skip + 1 :]), DPO)
    plan(fold(reversed(events)), DPO)
    assert fold([round_finished(7), finished(7, "sample"), failed(1, "train")]).rounds == ()
    assert fold([round_started(2, DPO)]).rounds == ()

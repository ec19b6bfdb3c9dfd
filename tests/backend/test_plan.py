"""`plan`: what comes next, for every state a run can be in."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    AbortRequested,
    Cause,
    GuardTripped,
    PauseRequested,
    RequestRejected,
    RunAborted,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
    Stage,
    StageFailed,
    StageStarted,
)
from halos_backend.store.round_state import WAIT_FOR_OWNER
from halos_backend.store.state import fold
from halos_backend.supervisor.plan import (
    AbortRun,
    Action,
    FailRun,
    FinishRound,
    FinishRun,
    PauseRun,
    Prunable,
    Prune,
    StartRound,
    StartStage,
    StopStage,
    Wait,
    plan,
    round_sizes,
)
from msgspec.structs import replace

from tests.support.journals import (
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


BEGUN: list[RunEvent] = [supervised(), round_started(1, DPO)]
"""A round without any stage. `failed` events are of second 5."""


def failures(count: int) -> list[RunEvent]:
    """So many attempts of sample that leave nothing."""
    made: list[RunEvent] = []
    for attempt in range(1, count + 1):
        made += [started(1, "sample", attempt), failed(1, "sample", attempt)]
    return made


def test_a_crashed_stage_is_tried_again_at_once_and_then_later_and_later() -> None:
    made = settings(max_attempts=99)

    def at(count: int, now: float) -> tuple[Action, ...]:
        return next_actions(*BEGUN, *failures(count), made=made, now=now)

    assert at(1, 5.0) == (StartStage(1, "sample", 2),)
    assert at(2, 5.0) == (Wait(until_t=10.0),)
    assert at(2, 9.9) == (Wait(until_t=10.0),)
    assert at(2, 10.0) == (StartStage(1, "sample", 3),)
    assert at(3, 10.0) == (Wait(until_t=15.0),)
    assert at(4, 10.0) == (Wait(until_t=25.0),)
    assert at(20, 10.0) == (Wait(until_t=305.0),), "five minutes at most"


def test_too_many_barren_attempts_wait_for_the_owner_who_makes_them_forgotten() -> None:
    events = [*BEGUN, *failures(3)]
    reason = "broken (3 attempts without progress)"
    assert next_actions(*events) == (FailRun(reason),)

    events.append(RunFailed(t=7.0, reason=reason))
    assert next_actions(*events) == ()
    events += [supervised(2)]
    assert next_actions(*events) == (), "a supervisor that starts changes nothing"

    events += [RunResumed(t=8.0)]
    assert next_actions(*events) == (StartStage(1, "sample", 4),)
    events += [started(1, "sample", 4), failed(1, "sample", 4)]
    assert next_actions(*events, now=5.0) == (StartStage(1, "sample", 5),)


def test_attempts_that_left_something_new_do_not_count() -> None:
    def left(attempt: int, durable: int) -> list[RunEvent]:
        end = replace(failed(1, "sample", attempt), durable=durable)
        return [started(1, "sample", attempt), end]

    made = settings(max_attempts=1)
    growing = [*BEGUN, *left(1, 4), *left(2, 8)]
    assert next_actions(*growing, made=made, now=5.0) == (StartStage(1, "sample", 3),)
    assert next_actions(*growing, *left(3, 8), made=made) == (
        FailRun("broken (1 attempts without progress)"),
    )


@pytest.mark.parametrize("cause", sorted(WAIT_FOR_OWNER))
def test_what_would_only_happen_again_is_not_tried_again(cause: Cause) -> None:
    end = replace(failed(1, "sample"), cause=cause)
    assert next_actions(*BEGUN, started(1, "sample"), end) == (FailRun("broken"),)


def warm(event: StageStarted) -> StageStarted:
    return replace(event, is_warm=True)


def out_of_memory(stage: Stage, attempt: int = 1) -> StageFailed:
    return replace(failed(1, stage, attempt), cause="out_of_memory")


def test_a_worker_without_memory_makes_way_for_a_program_that_has_it_all() -> None:
    events = [*BEGUN, warm(started(1, "sample")), out_of_memory("sample")]
    assert next_actions(*events, now=5.0) == (StartStage(1, "sample", 2),)
    assert fold([created(DPO), *events]).is_crowded, "and so do those of later stages"

    events += [started(1, "sample", 2), out_of_memory("sample", 2)]
    assert next_actions(*events, now=5.0) == (FailRun("broken"),)
    events += [RunFailed(t=7.0, reason="broken"), RunResumed(t=8.0)]
    assert not fold([created(DPO), *events]).is_crowded


def test_a_stage_without_memory_that_had_it_all_is_not_crowded() -> None:
    state = fold([created(DPO), *BEGUN, started(1, "sample"), out_of_memory("sample")])
    assert not state.is_crowded


TRAINED_IN_VAIN: list[RunEvent] = [
    finished(1, "sample"),
    started(1, "label"),
    finished(1, "label"),
    started(1, "train"),
    replace(failed(1, "train"), cause="other_policy"),
]


def test_another_policys_samples_are_made_anew_by_an_engine_of_its_own() -> None:
    events = [*BEGUN, warm(started(1, "sample")), *TRAINED_IN_VAIN]
    assert next_actions(*events, now=5.0) == (StartStage(1, "sample", 2),)
    events += [started(1, "sample", 2), finished(1, "sample", 2)]
    assert next_actions(*events, now=5.0) == (StartStage(1, "label", 2),)
    events += [started(1, "label", 2), finished(1, "label", 2)]
    assert next_actions(*events, now=5.0) == (StartStage(1, "train", 2),)
    assert next_actions(*events, started(1, "train", 2), finished(1, "train", 2)) == (
        FinishRound(1),
    )


def test_an_engine_of_its_own_that_samples_for_another_policy_waits_for_the_owner() -> None:
    events = [*BEGUN, started(1, "sample"), *TRAINED_IN_VAIN]
    assert next_actions(*events, now=5.0) == (FailRun("broken"),)
    events += [RunFailed(t=7.0, reason="broken"), RunResumed(t=8.0)]
    assert next_actions(*events) == (StartStage(1, "sample", 2),), "retry samples anew"


def test_an_attempt_that_was_told_to_stop_is_no_failure() -> None:
    made = settings(max_attempts=1)
    end = replace(failed(1, "sample"), cause="stopped")
    assert next_actions(*BEGUN, started(1, "sample"), end, made=made, now=5.0) == (
        StartStage(1, "sample", 2),
    )


def test_a_train_stage_whose_checkpoint_was_found_damaged_is_tried_again() -> None:
    *trained, _ = whole_round(1, DPO)
    damaged = replace(failed(1, "train"), cause="damaged")

    assert next_actions(supervised(), *trained, damaged) == (StartStage(1, "train", 2),)


PAUSE_AFTER_ROUND = PauseRequested(t=6.0, request_id="p", at="round")
PAUSE_AFTER_STAGE = PauseRequested(t=6.0, request_id="p", at="stage")
SAMPLED: list[RunEvent] = [*BEGUN, started(1, "sample"), finished(1, "sample")]


def test_a_pause_comes_at_its_boundary() -> None:
    running = [*BEGUN, started(1, "sample")]
    for pause in (PAUSE_AFTER_ROUND, PAUSE_AFTER_STAGE):
        assert next_actions(*running, pause) == (Wait(),), "what runs is not disturbed"
    assert next_actions(*SAMPLED, PAUSE_AFTER_STAGE) == (PauseRun("by its owner, in round 1"),)
    assert next_actions(*SAMPLED, PAUSE_AFTER_ROUND) == (StartStage(1, "label", 1),)

    done: list[RunEvent] = [supervised(), *whole_round(1, DPO), PAUSE_AFTER_ROUND]
    assert next_actions(*done) == (PauseRun("by its owner, after round 1"),)
    paused = [*done, RunPaused(t=7.0, reason="by its owner, after round 1")]
    assert next_actions(*paused, supervised(2)) == ()
    assert next_actions(*paused, supervised(2), RunResumed(t=8.0)) == (
        StartRound(round=2, cursor=4, num_prompts=4),
    )


def test_a_round_that_is_done_but_for_the_books_is_finished_before_a_pause() -> None:
    *trained, _ = whole_round(1, DPO)
    assert next_actions(supervised(), *trained, PAUSE_AFTER_STAGE) == (FinishRound(1),)


def test_a_pause_between_attempts_does_not_wait_for_the_next_one() -> None:
    events = [*BEGUN, *failures(2), PAUSE_AFTER_STAGE]
    assert next_actions(*events, now=5.0) == (PauseRun("by its owner, in round 1"),)


def test_a_run_that_ends_before_the_pause_has_ended() -> None:
    made = settings(num_rounds=1, score_final=False)
    events = [*whole_round(1, made), PAUSE_AFTER_ROUND]
    assert next_actions(supervised(), *events, made=made) == (FinishRun("all 1 rounds are done"),)


def test_a_run_may_pause_after_each_round_once() -> None:
    made = settings(pause_after_each_round=True)
    assert next_actions(supervised(), made=made) == (StartRound(1, 0, 4),)

    events: list[RunEvent] = [supervised(), *whole_round(1, made)]
    why = "after round 1, as loop.pause_after_each_round says"
    assert next_actions(*events, made=made) == (PauseRun(why),)

    events += [RunPaused(t=8.0, reason=why), RunResumed(t=9.0)]
    assert next_actions(*events, made=made) == (StartRound(2, 4, 4),)


def test_an_abort_may_leave_the_stage_or_the_round_its_time() -> None:
    after_stage = AbortRequested(t=6.0, request_id="a", when="stage")
    after_round = AbortRequested(t=6.0, request_id="a", when="round")
    running = [*BEGUN, started(1, "sample")]
    for abort in (after_stage, after_round):
        assert next_actions(*running, abort) == (Wait(),)
    assert next_actions(*SAMPLED, after_stage) == (AbortRun(),)
    assert next_actions(*SAMPLED, after_round) == (StartStage(1, "label", 1),)
    *trained, _ = whole_round(1, DPO)
    for abort in (after_stage, after_round):
        assert next_actions(supervised(), *trained, abort) == (FinishRound(1),)
        assert next_actions(supervised(), *whole_round(1, DPO), abort) == (AbortRun(),)
    assert next_actions(*BEGUN, *failures(3), after_round) == (AbortRun(),), "no use in waiting"


@pytest.mark.parametrize(
    ("action", "status"), [("pause", "pausing"), ("abort", "aborting"), ("warn", "running")]
)
def test_a_guard_stops_the_run_at_the_next_stage(
    action: Literal["pause", "abort", "warn"], status: str
) -> None:
    tripped = GuardTripped(
        t=6.0,
        guard="kl",
        round=1,
        stage="sample",
        metric="kl_initial",
        value=12.0,
        reason="kl_initial is 12",
        action=action,
    )
    assert fold([created(DPO), *SAMPLED, tripped]).status == status
    expected: dict[str, Action] = {
        "pause": PauseRun("kl_initial is 12"),
        "abort": AbortRun(),
        "warn": StartStage(1, "label", 1),
    }
    assert next_actions(*SAMPLED, tripped) == (expected[action],)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({"num_feedback": 0}, "no feedback is left"),
        ({"num_feedback": 0, "num_unscored": 8}, "no completion could be scored"),
        ({"num_feedback": 0, "num_cut_off_dropped": 8}, "all completions were cut off"),
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


def test_a_train_stage_that_found_nothing_to_train_on_ends_its_round_untrained() -> None:
    *trained, _ = whole_round(1, DPO)
    trained[-1] = finished(1, "train", num_steps=0, untrained="all was cut off")

    assert next_actions(supervised(), *trained) == (FinishRound(1, untrained="all was cut off"),)


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
    while isinstance(action := plan(state, made, 100.0)[0], StartRound):
        assert action.round == len(taken) + 1
        assert action.cursor == sum(taken)
        taken.append(action.num_prompts)
        _, *rest = whole_round(action.round, made, trained=False)
        begun = round_started(action.round, made, cursor=action.cursor)
        state = fold([replace(begun, num_prompts=action.num_prompts), *rest], state)

    assert taken == sizes
    assert action == FinishRun(reason)
    assert round_sizes(made, num_prompts) == sizes


OVERLAPPED = settings(overlap=True)
SAMPLING: list[RunEvent] = [supervised(), round_started(1, OVERLAPPED), started(1, "sample")]
BOTH: list[RunEvent] = [*SAMPLING, started(1, "label")]


def next_overlapped(*events: RunEvent) -> tuple[Action, ...]:
    return next_actions(*events, made=OVERLAPPED)


def test_what_has_no_memory_beside_sampling_waits_for_its_end() -> None:
    events = [*BOTH, out_of_memory("label")]
    assert next_overlapped(*events) == (Wait(),)
    assert next_overlapped(*events, finished(1, "sample")) == (StartStage(1, "label", 2),)

    begun = round_started(2, OVERLAPPED)
    rest = [finished(1, "sample"), started(1, "label", 2), finished(1, "label", 2)]
    trained = [started(1, "train"), finished(1, "train"), round_finished(1)]
    later = [*events, *rest, *trained, begun, started(2, "sample")]
    assert next_overlapped(*later) == (Wait(),), "nor is it tried in later rounds"


def test_sampling_without_memory_beside_labelling_is_tried_again_alone() -> None:
    stopped = replace(failed(1, "label"), cause="stopped")
    events = [*BOTH, out_of_memory("sample"), stopped]
    assert next_overlapped(*events) == (StartStage(1, "sample", 2),)
    assert next_overlapped(*events, started(1, "sample", 2)) == (Wait(),)


def test_a_round_is_labelled_while_it_is_sampled_where_that_is_wanted() -> None:
    assert next_actions(supervised(), round_started(1, DPO), started(1, "sample")) == (Wait(),)
    assert next_overlapped(*SAMPLING) == (StartStage(1, "label", attempt=1),)
    assert next_overlapped(*BOTH) == (Wait(),)
    assert next_overlapped(*BOTH, finished(1, "sample")) == (Wait(),)
    both_done = [*BOTH, finished(1, "sample"), finished(1, "label")]
    assert next_overlapped(*both_done) == (StartStage(1, "train", attempt=1),)
    assert next_overlapped(*both_done, started(1, "train")) == (Wait(),)


def test_a_label_stage_ends_with_the_sampling_that_it_follows() -> None:
    sampling_failed = [*BOTH, failed(1, "sample")]
    (stop,) = next_overlapped(*sampling_failed)
    assert isinstance(stop, StopStage)
    assert (stop.round, stop.stage) == (1, "label")
    stopped = replace(failed(1, "label", reason=stop.reason), cause="stopped")
    state = fold([created(OVERLAPPED), *sampling_failed, stopped])
    assert state.failure == "broken", "what is told is the sampling's failure"
    assert state.rounds[0].stages["label"].num_barren == 0
    assert next_overlapped(*sampling_failed, stopped) == (StartStage(1, "sample", attempt=2),)
    again = [*sampling_failed, stopped, started(1, "sample", attempt=2)]
    assert next_overlapped(*again) == (Wait(),), "what failed once is tried when sampling is done"
    done = [*again, finished(1, "sample", attempt=2)]
    assert next_overlapped(*done) == (StartStage(1, "label", attempt=2),)


def test_labels_of_completions_that_did_not_stay_do_not_count() -> None:
    labelled = [*BOTH, finished(1, "label"), failed(1, "sample")]
    assert next_overlapped(*labelled) == (StartStage(1, "sample", attempt=2),)
    done = [*labelled, started(1, "sample", attempt=2), finished(1, "sample", attempt=2)]
    assert next_overlapped(*done) == (StartStage(1, "label", attempt=2),)


def test_a_label_stage_that_fails_by_itself_waits_for_the_sampling() -> None:
    broken = [*BOTH, failed(1, "label")]
    assert next_overlapped(*broken) == (Wait(),)
    assert next_overlapped(*broken, finished(1, "sample")) == (StartStage(1, "label", attempt=2),)


def test_nothing_is_begun_beside_a_stage_after_which_the_run_stops() -> None:
    for stop in (
        PauseRequested(t=6.0, request_id="r", at="stage"),
        AbortRequested(t=6.0, request_id="r", when="stage"),
    ):
        assert next_overlapped(*SAMPLING, stop) == (Wait(),)
    at_round = PauseRequested(t=6.0, request_id="r", at="round")
    assert next_overlapped(*SAMPLING, at_round) == (StartStage(1, "label", attempt=1),)


def test_an_abort_stops_both() -> None:
    abort = AbortRequested(t=6.0, request_id="r")
    assert next_overlapped(*BOTH, abort) == (
        StopStage(1, "sample", "aborted"),
        StopStage(1, "label", "aborted"),
    )


def test_an_abort_stops_what_runs_and_then_the_run() -> None:
    abort = AbortRequested(t=6.0, request_id="r")
    running: list[RunEvent] = [supervised(), round_started(1, DPO), started(1, "sample"), abort]
    assert next_actions(*running) == (StopStage(1, "sample", "aborted"),)

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
    assert plan(before, DPO, 100.0) == plan(after, DPO, 100.0)


def test_pruning_comes_before_the_next_round() -> None:
    events: list[RunEvent] = [supervised(), *whole_round(1, DPO), *whole_round(2, DPO)]

    assert next_actions(*events) == (
        Prune((Prunable(1, "rounds/0001/train/attempt_1/trainer_state"),)),
    )


def test_no_prefix_of_a_journal_names_a_finished_stage_or_round_again() -> None:
    events = eventful_journal(DPO)
    for length in range(len(events) + 1):
        state = fold(events[:length])
        for action in plan(state, DPO, 100.0):
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
        plan(fold(events[:skip] + events[skip + 1 :]), DPO, 100.0)
    plan(fold(reversed(events)), DPO, 100.0)
    assert fold([round_finished(7), finished(7, "sample"), failed(1, "train")]).rounds == ()
    assert fold([round_started(2, DPO)]).rounds == ()

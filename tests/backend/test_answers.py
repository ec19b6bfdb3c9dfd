"""Requests: what each becomes in every state of a run, and why it is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import (
    AbortRequested,
    AnswerEvent,
    Event,
    PauseRequested,
    RequestRejected,
    RunAborted,
    RunCompleted,
    RunEvent,
    RunExtended,
    RunFailed,
    RunPaused,
    RunResumed,
    SettingsChanged,
)
from halos_backend.store.requests import Abort, Extend, Pause, Request, Resume, Retry, Set
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, fold
from halos_backend.supervisor.requests import answer

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

RUN = RunDir(Path("/runs/a-run"))
DPO = settings()
FIRST_ROUND = [created(DPO), supervised(), round_started(1, DPO)]
SAMPLING = [*FIRST_ROUND, started(1, "sample")]
SAMPLED = [*SAMPLING, finished(1, "sample")]

STATES: dict[str, list[RunEvent]] = {
    "running": SAMPLING,
    "pausing": [*SAMPLING, PauseRequested(t=5.0, request_id="p", at="round")],
    "pausing at once": [*SAMPLING, PauseRequested(t=5.0, request_id="p", at="stage")],
    "paused": [*SAMPLED, RunPaused(t=6.0, reason="by its owner")],
    "failed": [*SAMPLING, failed(1, "sample"), RunFailed(t=6.0, reason="broken")],
    "waiting": [*SAMPLING, failed(1, "sample")],
    "aborting": [*SAMPLING, AbortRequested(t=6.0, request_id="a")],
    "aborting later": [*SAMPLING, AbortRequested(t=6.0, request_id="a", when="round")],
    "aborted": [*SAMPLED, RunAborted(t=6.0, request_id="a")],
    "completed": [*SAMPLED, RunCompleted(t=6.0, reason="all rounds are done")],
}

ACCEPTED: list[tuple[Request, set[str], type[Event]]] = [
    (Pause(request_id="r"), {"running", "waiting"}, PauseRequested),
    (Pause(request_id="r", at="stage"), {"running", "waiting", "pausing"}, PauseRequested),
    (Resume(request_id="r"), {"pausing", "pausing at once", "paused", "failed"}, RunResumed),
    (Retry(request_id="r"), {"failed", "waiting"}, RunResumed),
    (
        Abort(request_id="r"),
        set(STATES) - {"aborting", "aborted", "completed"},
        AbortRequested,
    ),
    (
        Abort(request_id="r", when="round"),
        set(STATES) - {"aborting", "aborting later", "aborted", "completed"},
        AbortRequested,
    ),
    (
        Set(request_id="r", assignments=("train.lr=1e-3",)),
        set(STATES) - {"aborting", "aborting later", "aborted", "completed"},
        SettingsChanged,
    ),
    (Extend(request_id="r", num_rounds=2), {"completed"}, RunExtended),
]


def ask(request: Request, events: list[RunEvent]) -> RunEvent:
    return answer(request, fold(events), 9.0, RUN)


def change(events: list[RunEvent], *assignments: str, **options: Any) -> RunEvent:
    return ask(Set(request_id="r", assignments=assignments, **options), events)


def reason(event: RunEvent) -> str:
    assert isinstance(event, RequestRejected), event
    assert event.request_id == "r"
    return event.reason


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("request_, accepted, kind", ACCEPTED)
def test_each_request_is_accepted_in_its_states_and_rejected_in_all_others(
    request_: Request, accepted: set[str], kind: type[Event], state: str
) -> None:
    event = ask(request_, STATES[state])

    assert isinstance(event, AnswerEvent)
    assert event.request_id == "r"
    assert isinstance(event, kind if state in accepted else RequestRejected)
    if isinstance(event, RequestRejected):
        assert fold([event], fold(STATES[state])).status == fold(STATES[state]).status
        assert "the run a-run is" in event.reason


def test_a_paused_run_is_aborted_at_once_whatever_was_asked() -> None:
    event = ask(Abort(request_id="r", when="round"), STATES["paused"])

    assert event == AbortRequested(t=9.0, request_id="r", when="now")


# --- set ------------------------------------------------------------------------------------


def after(events: list[RunEvent], *changes: RunEvent) -> RunState:
    return fold([*events, *changes])


def test_a_change_holds_from_the_next_round_on() -> None:
    event = change(SAMPLING, "train.lr=1e-3", "train.loss.beta=0.3", by="alice")

    assert isinstance(event, SettingsChanged)
    assert event.from_round == 2
    assert event.changes == {"train.lr": (5e-6, 1e-3), "train.loss.beta": (0.1, 0.3)}
    assert event.by == "alice"
    state = after(SAMPLING, event)
    assert state.settings_of(1)["train"]["lr"] == 5e-6
    assert [state.settings_of(round)["train"]["lr"] for round in (2, 3)] == [1e-3, 1e-3]
    assert state.settings["train"]["lr"] == 5e-6, "what it was created with stays on record"


def test_a_change_may_wait_for_a_later_round_and_is_not_overtaken() -> None:
    later = change(SAMPLING, "train.lr=1e-3", from_round=4)
    sooner = change([*SAMPLING, later], "train.lr=2e-3", from_round=3)

    state = after(SAMPLING, later, sooner)

    assert [state.settings_of(round)["train"]["lr"] for round in range(1, 6)] == [
        5e-6, 5e-6, 2e-3, 1e-3, 1e-3,
    ]  # fmt: skip


def test_a_loss_changes_as_a_whole_with_the_feedback_it_needs() -> None:
    alone = change(SAMPLING, "train.loss.kind=kto", "label.feedback.kind=scalar")
    assert "label.feedback.kind" in reason(alone)

    event = change(SAMPLING, "train.loss.kind=kto", "label.feedback.kind=binary")

    assert isinstance(event, SettingsChanged)
    state = after(SAMPLING, event)
    assert state.settings_of(2)["train"]["loss"]["kind"] == "kto"
    assert state.settings_of(2)["label"]["feedback"] == {"kind": "binary", "threshold": "median"}
    assert any("optimizer" in text for text in event.consequences)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("train.lr=fast", "train.lr"),
        ("train.lr=-1", "train.lr"),
        ("train.betta=1", "train.betta"),
        ("policy.path=/other", "fork"),
        ("prompts.path=/other.jsonl", "fork"),
        ("loop.seed=1", "fork"),
        ("train.lr=5e-6", "already"),
        ("nonsense", "nonsense"),
        ("sample.group_size=1", "group_size"),
    ],
)
def test_what_cannot_be_is_refused_by_name(assignment: str, said: str) -> None:
    assert said in reason(change(SAMPLING, assignment))


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = reason(change(SAMPLING, "train.lr=fast", "loop.seed=3"))

    assert "train.lr" in said
    assert "loop.seed" in said


def test_a_past_round_and_one_under_way_are_refused() -> None:
    third = [created(DPO), supervised(), *whole_round(1, DPO), round_started(2, DPO)]
    sampling = [*third, started(2, "sample")]

    assert reason(change(sampling, "train.lr=1", from_round=1)) == (
        "round 1 is past; the next is 3"
    )
    assert "under way (sample runs)" in reason(change(sampling, "train.lr=1", from_round=2))


def test_between_stages_the_round_at_hand_may_change_what_is_not_done() -> None:
    paused = STATES["paused"]

    event = change(paused, "train.lr=1e-3", from_round=1)
    assert isinstance(event, SettingsChanged)
    state = after(paused, event)
    assert state.rounds[0].settings["train"]["lr"] == 1e-3
    assert state.settings_of(2)["train"]["lr"] == 1e-3

    said = reason(change(paused, "sample.temperature=0.9", from_round=1))
    assert "sample.temperature" in said
    assert "--from-round 2" in said
    assert "prompts_per_round" in reason(change(paused, "loop.prompts_per_round=2", from_round=1))


def test_a_failed_runs_change_is_for_the_round_that_failed_where_it_can_be() -> None:
    event = change(STATES["failed"], "sample.batch_size=4")
    assert isinstance(event, SettingsChanged)
    assert event.from_round == 1

    label_failed = [*SAMPLED, started(1, "label"), failed(1, "label"), RunFailed(t=7.0, reason="x")]
    event = change(label_failed, "sample.batch_size=4")
    assert isinstance(event, SettingsChanged)
    assert event.from_round == 2, "its samples are there already"


def test_changes_that_wait_must_go_with_a_new_one() -> None:
    waiting = change(SAMPLING, "train.batch_size=6", from_round=3)
    whole_groups = ("train.loss.kind=grpo", "label.feedback.kind=scalar")
    assert isinstance(change(SAMPLING, *whole_groups), SettingsChanged)

    said = reason(change([*SAMPLING, waiting], *whole_groups))

    assert said.startswith("with the changes that wait for round 3")
    assert "train.batch_size" in said


def test_fewer_rounds_than_have_begun_are_refused() -> None:
    two = [created(DPO), supervised(), *whole_round(1, DPO), round_started(2, DPO)]

    assert "write at least 2" in reason(change(two, "loop.num_rounds=1"))
    assert isinstance(change(two, "loop.num_rounds=2"), SettingsChanged)


# --- extend ---------------------------------------------------------------------------------


def completed(*rounds: int, **loop: Any) -> list[RunEvent]:
    made = settings(**loop)
    events: list[RunEvent] = [created(made), supervised()]
    for round in rounds:
        events += whole_round(round, made)
    return [*events, RunCompleted(t=9.0, reason="done")]


def test_a_completed_run_goes_on_for_more_rounds() -> None:
    run = completed(1, 2, num_rounds=2)

    event = ask(Extend(request_id="r", num_rounds=1), run)

    assert event == RunExtended(
        t=9.0, request_id="r", num_rounds=3, changes={"loop.num_rounds": (2, 3)}
    )
    state = fold([*run, event])
    assert state.status == "running"
    assert state.settings_of(3)["loop"]["num_rounds"] == 3


def test_a_spent_budget_grows_with_the_rounds() -> None:
    event = ask(
        Extend(request_id="r", num_rounds=1), completed(1, 2, num_rounds=None, num_prompts=8)
    )

    assert isinstance(event, RunExtended)
    assert event.changes == {"loop.num_rounds": (None, 3), "loop.num_prompts": (8, 12)}


def test_without_prompts_nothing_can_be_extended_unless_they_are_used_again() -> None:
    run = completed(1, 2, 3, num_rounds=3)

    said = reason(ask(Extend(request_id="r", num_rounds=1), run))
    assert said == (
        "all 12 prompts are used; to go through them once more: --set loop.num_epochs=2"
    )
    again = Extend(request_id="r", num_rounds=1, assignments=("loop.num_epochs=2",))
    assert isinstance(ask(again, run), RunExtended)

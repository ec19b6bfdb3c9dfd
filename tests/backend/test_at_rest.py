"""What a journal says of time at rest, of stopped stages, of supervisors that were gone."""

from __future__ import annotations

from typing import Any

import pytest
from halos_backend.events import (
    AbortRequested,
    Event,
    PauseRequested,
    RunAborted,
    RunCompleted,
    RunExtended,
    RunFailed,
    RunPaused,
    RunResumed,
)
from halos_backend.store.identity import own_identity
from halos_backend.store.state import RunState, fold
from halos_backend.supervisor.loop import _stages_left
from msgspec.structs import replace

from tests.support.journals import created, failed, round_started, settings, started, supervised

MADE = settings()
BEGUN = (created(MADE), supervised())  # created at 1.0
ABORT = AbortRequested(t=20.0, request_id="r")


def state_of(*events: Any) -> RunState:
    return fold([*BEGUN, *events])


def at(t: float, event: type[Event], **about: Any) -> Event:
    return event(t=t, **about)


def test_a_run_at_work_has_been_so_since_its_creation() -> None:
    assert state_of().elapsed_s(31.0) == 30.0


@pytest.mark.parametrize("rest", [RunPaused, RunFailed])
def test_time_at_rest_does_not_count(rest: type[Event]) -> None:
    still = state_of(at(11.0, rest, reason="why"))
    again = fold([RunResumed(t=1011.0, request_id="r")], still)
    later = fold([at(1021.0, rest, reason="why"), RunResumed(t=5021.0, request_id="s")], again)

    assert still.elapsed_s(500.0) == 10.0
    assert again.elapsed_s(1015.0) == 14.0
    assert later.elapsed_s(5025.0) == 24.0


def test_what_is_asked_of_a_run_at_rest_does_not_wake_its_clock() -> None:
    still = state_of(at(11.0, RunPaused, reason="why"), at(100.0, PauseRequested, request_id="r"))

    assert still.elapsed_s(500.0) == 10.0


def test_a_run_that_is_extended_after_its_end_goes_on_counting() -> None:
    ended = state_of(at(11.0, RunCompleted, reason="done"))
    extended = fold([RunExtended(t=1011.0, request_id="r", num_rounds=9, changes={})], ended)

    assert ended.elapsed_s(500.0) == 10.0
    assert extended.elapsed_s(1016.0) == 15.0


def test_a_state_that_an_older_version_wrote_rests_since_its_last_event() -> None:
    old = replace(state_of(at(11.0, RunPaused, reason="why")), idle_since=None)
    resumed = fold([RunResumed(t=1011.0, request_id="r")], old)

    assert old.elapsed_s(500.0) == 10.0
    assert resumed.elapsed_s(1013.0) == 12.0


def stopped_stage(*before: Event, cause: Any = "stopped") -> Any:
    event = replace(failed(1, "sample", reason="aborted"), cause=cause)
    state = state_of(round_started(1, MADE), started(1, "sample"), *before, event)
    return (
        fold([at(30.0, RunAborted, request_id="r")] if before else [], state)
        .rounds[0]
        .stages["sample"]
    )


def test_a_stage_that_is_stopped_because_the_run_is_aborted_has_not_failed() -> None:
    assert stopped_stage(ABORT).outcome == "aborted"
    assert stopped_stage(ABORT).status == "failed", "there is no result all the same"


def test_a_stage_that_is_stopped_otherwise_is_not_aborted() -> None:
    assert stopped_stage().outcome == "stopped"


def test_a_stage_that_fails_by_itself_has_failed_also_while_the_run_is_aborted() -> None:
    assert stopped_stage(ABORT, cause="crashed").outcome == "failed"


def test_a_supervisor_tells_which_stages_went_on_without_one() -> None:
    alive = replace(started(1, "sample"), process=own_identity())
    left = state_of(round_started(1, MADE), alive, started(1, "label"))

    assert _stages_left(left) == (("sample",), ("label",))
    assert _stages_left(state_of()) == ((), ())

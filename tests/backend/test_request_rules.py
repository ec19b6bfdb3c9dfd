"""What a run grants: each kind of request in each state of a run, by docs/recovery.md."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from halos_backend.events import (
    AbortRequested,
    GuardTripped,
    PauseRequested,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
)
from halos_backend.store.request_rules import Refusal, refusal, round_to_change
from halos_backend.store.requests import Abort, Extend, Pause, Request, Resume, Retry, Set
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunStatus, fold

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
SAMPLING = [created(DPO), supervised(), round_started(1, DPO), started(1, "sample")]
SAMPLED = [*SAMPLING, finished(1, "sample")]
WAITING = [*SAMPLING, failed(1, "sample")]
UNSCORED: list[RunEvent] = [
    *[created(DPO), supervised(), *whole_round(1, DPO)],
    RoundStarted(t=7.0, round=2, cursor=4, num_prompts=4, settings={}, closing="next"),
    RoundFinished(t=8.0, round=2, checkpoint=None, metrics={}, unscored="the judge is gone"),
    RunCompleted(t=9.0, reason="all rounds are done"),
]
GUARDED = GuardTripped(
    t=5.0, guard="kl", round=1, stage="sample", metric="x", value=1.0, reason="y", action="pause"
)

STATES: dict[str, list[RunEvent]] = {
    "created": [created(DPO)],
    "running": SAMPLING,
    "running: a failed stage waits": WAITING,
    "running: label failed while sample goes on": [
        *SAMPLING,
        started(1, "label"),
        failed(1, "label"),
    ],
    "pausing at the round": [*SAMPLING, PauseRequested(t=5.0, request_id="p")],
    "pausing at the stage": [*SAMPLING, PauseRequested(t=5.0, request_id="p", at="stage")],
    "pausing by a guard": [*SAMPLING, GUARDED],
    "pausing: a failed stage waits": [*WAITING, PauseRequested(t=5.0, request_id="p")],
    "paused": [*SAMPLED, RunPaused(t=6.0, reason="by its owner")],
    "failed": [*WAITING, RunFailed(t=6.0, reason="broken")],
    "failed while aborting": [
        *[*WAITING, AbortRequested(t=6.0, request_id="a", when="round")],
        RunFailed(t=6.0, reason="the disk is full"),
    ],
    "aborting now": [*SAMPLING, AbortRequested(t=6.0, request_id="a")],
    "aborting after the stage": [*SAMPLING, AbortRequested(t=6.0, request_id="a", when="stage")],
    "aborting after the round": [*SAMPLING, AbortRequested(t=6.0, request_id="a", when="round")],
    "aborting: a failed stage waits": [*WAITING, AbortRequested(t=6.0, request_id="a")],
    "aborted": [*SAMPLED, RunAborted(t=6.0, request_id="a")],
    "completed": [*SAMPLED, RunCompleted(t=6.0, reason="all rounds are done")],
    "completed without a score": UNSCORED,
}
PAUSING = {name for name in STATES if name.startswith("pausing")}
ABORTING = {name for name in STATES if name.startswith("aborting")}
FAILED = {"failed", "failed while aborting"}
COMPLETED = {"completed", "completed without a score"}
ENDED = {"aborted", *COMPLETED}

GRANTED: list[tuple[Request, set[str]]] = [
    (Pause(request_id="r"), {name for name in STATES if name.startswith(("created", "running"))}),
    (
        Pause(request_id="r", at="stage"),
        {name for name in STATES if name.startswith(("created", "running"))}
        | {"pausing at the round", "pausing: a failed stage waits"},
    ),
    (Resume(request_id="r"), {"paused"} | FAILED | PAUSING),
    (
        Retry(request_id="r"),
        {"running: a failed stage waits", "completed without a score"} | FAILED,
    ),
    (Set(request_id="r", assignments=("train.lr=1",)), set(STATES) - ABORTING - ENDED),
    (
        Set(request_id="r", assignments=("train.lr=1",), from_round=9),
        set(STATES) - ABORTING - ENDED,
    ),
    (
        Set(request_id="r", assignments=("train.lr=1",), from_round=1),
        # between two stages of round 1, or before it begins
        {"created", "running: a failed stage waits", "pausing: a failed stage waits", "paused"}
        | FAILED,
    ),
    (Extend(request_id="r", num_rounds=2), COMPLETED),
    (
        Abort(request_id="r"),
        set(STATES) - ENDED - {"aborting now", "aborting: a failed stage waits"},
    ),
    (
        Abort(request_id="r", when="stage"),
        set(STATES) - ENDED - ABORTING | {"aborting after the round"},
    ),
    (Abort(request_id="r", when="round"), set(STATES) - ENDED - ABORTING),
]

EXTEND = "halos-tui extend a-run --rounds N adds rounds"
ENDS = "halos-tui set a-run loop.num_rounds=N changes where it ends"
NEW = "new run: halos-tui run /runs/a-run/config.toml"
TAKES_BACK = "halos-tui resume a-run takes that back and tries the failed stage again"
SAID: list[tuple[Request, str, str]] = [
    (Pause(request_id="r"), "pausing at the stage", "the run a-run is pausing already"),
    (Pause(request_id="r"), "aborting after the round", "the run a-run is aborting"),
    (
        Pause(request_id="r"),
        "paused",
        "the run a-run is paused already; nothing runs that could pause",
    ),
    (Pause(request_id="r"), "failed", "the run a-run is failed; nothing runs that could pause"),
    (Pause(request_id="r"), "aborted", "the run a-run is aborted; nothing runs that could pause"),
    (Resume(request_id="r"), "running", "the run a-run is running"),
    (
        Resume(request_id="r"),
        "completed",
        "the run a-run is completed (all rounds are done); there is nothing to go on with."
        f" {EXTEND}; a {NEW}",
    ),
    (
        Resume(request_id="r"),
        "aborted",
        f"the run a-run is aborted (aborted by its owner); there is nothing to go on with. A {NEW}",
    ),
    (Retry(request_id="r"), "running", "the run a-run is running: no stage of it has failed"),
    (
        Retry(request_id="r"),
        "running: label failed while sample goes on",
        "the run a-run is running: the failed stage is tried again when sample is done",
    ),
    (
        Retry(request_id="r"),
        "pausing: a failed stage waits",
        f"the run a-run is pausing; {TAKES_BACK}",
    ),
    (Retry(request_id="r"), "aborting: a failed stage waits", "the run a-run is aborting"),
    (Retry(request_id="r"), "completed", "the run a-run is completed: no stage of it has failed"),
    (
        Set(request_id="r", assignments=("train.lr=1",)),
        "completed",
        f"the run a-run is completed; {EXTEND}",
    ),
    (Set(request_id="r", assignments=("train.lr=1",)), "aborted", "the run a-run is aborted"),
    (
        Set(request_id="r", assignments=("train.lr=1",)),
        "aborting after the round",
        "the run a-run is aborting",
    ),
    (
        Set(request_id="r", assignments=("train.lr=1",), from_round=1),
        "running",
        "round 1 is under way (sample runs): pause at a stage boundary first, or leave it to"
        " round 2",
    ),
    (
        Extend(request_id="r", num_rounds=1),
        "paused",
        f"the run a-run is paused, not completed; {ENDS}",
    ),
    (Extend(request_id="r", num_rounds=1), "aborted", "the run a-run is aborted"),
    (Abort(request_id="r"), "completed", "the run a-run is completed already"),
    (
        Abort(request_id="r", when="round"),
        "aborting after the stage",
        "the run a-run is aborting already",
    ),
]


@pytest.fixture(autouse=True)
def default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALOS_RUNS_DIR", "/runs")


def test_the_states_are_those_that_a_run_can_have() -> None:
    seen = {name: fold(events).status for name, events in STATES.items()}

    assert set(seen.values()) == set(get_args(RunStatus))
    assert [name for name, status in seen.items() if not name.startswith(status)] == []


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize(("request_", "states"), GRANTED)
def test_a_request_is_granted_in_its_states_and_refused_in_all_others(
    request_: Request, states: set[str], name: str
) -> None:
    assert (refusal(request_, fold(STATES[name]), RUN) is None) == (name in states)


@pytest.mark.parametrize(("request_", "name", "said"), SAID)
def test_a_refusal_says_why_and_what_to_do_instead(request_: Request, name: str, said: str) -> None:
    assert str(refusal(request_, fold(STATES[name]), RUN)) == said


def test_what_can_be_done_instead_stands_by_itself() -> None:
    refused = refusal(Extend(request_id="r", num_rounds=1), fold(SAMPLING), RUN)

    assert refused == Refusal("the run a-run is running, not completed", ENDS)


def test_a_refusal_names_the_state_that_is_seen() -> None:
    refused = refusal(Extend(request_id="r", num_rounds=1), fold(SAMPLING), RUN, status="lost")

    assert str(refused) == f"the run a-run is lost, not completed; {ENDS}"


def test_a_past_round_cannot_be_changed() -> None:
    second = [created(DPO), supervised(), *whole_round(1, DPO), round_started(2, DPO)]
    change = Set(request_id="r", assignments=("train.lr=1",), from_round=1)

    assert str(refusal(change, fold(second), RUN)) == "round 1 is past; the next is 3"


@pytest.mark.parametrize(
    ("name", "asked", "round"),
    [("created", None, 1), ("running", None, 2), ("failed", None, 1), ("running", 7, 7)],
)
def test_a_change_is_for_the_next_round_or_that_which_failed(
    name: str, asked: int | None, round: int
) -> None:
    assert round_to_change(fold(STATES[name]), asked) == round

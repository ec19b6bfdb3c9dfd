"""Controls on real supervisors: pause, set, extend, abort, stalled stages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from halos_backend.errors import ExitCode
from halos_backend.events import (
    AnswerEvent,
    PauseRequested,
    RequestRejected,
    RoundStarted,
    RunEvent,
    RunExtended,
    RunPaused,
    SettingsChanged,
    StageStalled,
)
from halos_backend.store import requests
from halos_backend.store.job import read_job
from halos_backend.store.requests import Abort, Extend, Pause, Resume, Retry, Set

from tests.support.fake_run import FakeRun
from tests.support.waiting import DEADLINE_S, wait_for

MakeRun = Callable[..., FakeRun]


def answered(run: FakeRun, request: requests.Request) -> RunEvent:
    """Ask a living supervisor and wait for its answer."""
    run.ask(request)
    assert requests.wait_for_answer(run.dir, request.request_id, timeout_s=DEADLINE_S)
    answers = (event for event in run.events if isinstance(event, AnswerEvent))
    return next(event for event in answers if event.request_id == request.request_id)


def round_settings(run: FakeRun, round: int) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run.dir.round_settings(round).read_text())
    return made


def test_a_pause_lets_the_round_end_and_the_supervisor_go(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.behave(r1_label_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "label")

    assert isinstance(answered(run, Pause(request_id="p")), PauseRequested)
    assert run.state.status == "pausing"
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "paused"
    assert len(run.state.rounds) == 1
    assert run.state.rounds[0].finished_t is not None
    assert isinstance(run.events[-1], RunPaused)
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"
    assert len(run.attempts) == 6, "nothing was done twice"


def test_a_pause_at_a_stage_lets_the_stage_end(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")

    answered(run, Pause(request_id="p", at="stage"))
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "paused"
    assert run.attempts == [(1, "sample", 1)]
    assert run.failures == []
    assert run.resume() == ExitCode.COMPLETED
    assert len(run.attempts) == 3


def test_a_pause_that_is_taken_back_never_happens(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")

    answered(run, Pause(request_id="p"))
    answered(run, Resume(request_id="r"))
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_a_supervisor_that_dies_while_pausing_pauses_when_it_is_back(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")
    answered(run, Pause(request_id="p"))
    run.kill(supervisor)
    run.release(attempt)

    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "paused"
    assert len(run.state.rounds) == 1


def test_a_run_pauses_after_each_round_when_told_so(make_run: MakeRun) -> None:
    run = make_run(num_rounds=3, pause_after_each_round=True)

    for finished in (1, 2):
        assert (run.supervise() if finished == 1 else run.resume()) == ExitCode.COMPLETED
        assert run.state.status == "paused"
        assert len(run.state.rounds) == finished
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_a_change_takes_effect_in_exactly_its_round(make_run: MakeRun) -> None:
    run = make_run(num_rounds=4)
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")

    next_round = answered(run, Set(request_id="s", assignments=("train.lr=1e-3",), by="alice"))
    later = Set(request_id="t", assignments=("loop.prompts_per_round=1",), from_round=3)
    assert isinstance(next_round, SettingsChanged)
    assert isinstance(answered(run, later), SettingsChanged)
    refused = answered(run, Set(request_id="u", assignments=("train.lr=fast",)))
    assert isinstance(refused, RequestRejected)
    run.release(attempt)
    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED

    assert run.state.status == "completed"
    assert [round_settings(run, round)["train"]["lr"] for round in range(1, 5)] == [
        5e-6, 1e-3, 1e-3, 1e-3,
    ]  # fmt: skip
    for round in range(1, 5):
        job = read_job(run.dir.attempt(round, "train", 1).job)
        assert job.settings == round_settings(run, round)
    assert [event.num_prompts for event in run.events if isinstance(event, RoundStarted)] == [
        2,
        2,
        1,
        1,
    ]


def test_a_paused_run_without_a_process_still_answers(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2, pause_after_each_round=True)
    run.supervise()

    run.ask(Set(request_id="s", assignments=("train.lr=1e-3",)))
    run.ask(Set(request_id="t", assignments=("loop.seed=7",)))
    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "paused"
    changed, rejected = run.events[-2:]
    assert isinstance(changed, SettingsChanged)
    assert isinstance(rejected, RequestRejected)
    assert run.resume() == ExitCode.COMPLETED
    assert round_settings(run, 2)["train"]["lr"] == 1e-3


def test_a_failed_stage_runs_again_with_what_its_owner_changed(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_train_1="run out of memory")
    run.supervise()
    assert run.state.status == "failed"

    run.ask(Set(request_id="s", assignments=("train.microbatch_tokens=64",)))
    run.ask(Retry(request_id="r"))
    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "completed"
    assert round_settings(run, 1)["train"]["microbatch_tokens"] == 64
    jobs = [read_job(run.dir.attempt(1, "train", number).job) for number in (1, 2)]
    assert [job.settings["train"]["microbatch_tokens"] for job in jobs] == [8192, 64]


def test_a_completed_run_is_extended(make_run: MakeRun) -> None:
    run = make_run(num_rounds=1)
    run.supervise()

    run.ask(Extend(request_id="e", num_rounds=2))
    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "completed"
    assert len(run.state.rounds) == 3
    assert str(run.dir.final.readlink()) == "rounds/0003/train/attempt_1/checkpoint"
    assert any(isinstance(event, RunExtended) for event in run.events)
    assert [round.cursor for round in run.state.rounds] == [0, 2, 4]


def test_an_abort_after_the_round_keeps_that_round(make_run: MakeRun) -> None:
    run = make_run(num_rounds=3)
    run.behave(r1_label_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "label")

    answered(run, Abort(request_id="a", when="round"))
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "aborted"
    assert str(run.dir.final.readlink()) == "rounds/0001/train/attempt_1/checkpoint"
    assert len(run.attempts) == 3


def test_a_silent_stage_is_reported_and_started_again(make_run: MakeRun) -> None:
    run = make_run(launch={"stall_timeout_s": 1.5, "load_timeout_s": 600.0})
    run.behave(r1_label_1="go silent while scoring")

    assert run.supervise(TEST_GRACE_S="0.5") == ExitCode.COMPLETED

    (stalled,) = [event for event in run.events if isinstance(event, StageStalled)]
    assert (stalled.round, stalled.stage, stalled.attempt) == (1, "label", 1)
    assert stalled.phase == "scoring"
    assert stalled.silent_s >= 1.5
    (failure,) = run.failures
    assert failure.cause == "stalled"
    assert run.state.status == "completed"
    assert (1, "label", 2) in run.attempts


def test_a_stage_that_loads_has_a_limit_of_its_own(make_run: MakeRun) -> None:
    run = make_run(launch={"stall_timeout_s": 1.0, "load_timeout_s": 600.0})
    run.behave(r1_label_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "label")
    beat = run.dir.heartbeat.read_text()
    wait_for(lambda: int(run.dir.heartbeat.read_text()) > int(beat) + 3)
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.failures == []
    assert not any(isinstance(event, StageStalled) for event in run.events)


def test_a_journal_that_lost_an_answer_is_not_gone_on_with(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")
    before = run.dir.events.read_bytes()
    assert isinstance(
        answered(run, Set(request_id="s", assignments=("train.lr=1e-3",))), SettingsChanged
    )
    run.kill(supervisor)
    run.dir.events.write_bytes(before + b'{"type":"Setti')

    assert run.supervise() == ExitCode.FAILED
    assert f"{run.dir.events} has lost records" in run.log
    assert run.dir.events.read_bytes() == before + b'{"type":"Setti', "nothing is changed"
    (filed,) = run.dir.answered.iterdir()
    filed.rename(run.dir.control / filed.name)
    run.release(attempt)

    assert run.supervise() == ExitCode.COMPLETED
    assert round_settings(run, 2)["train"]["lr"] == 1e-3

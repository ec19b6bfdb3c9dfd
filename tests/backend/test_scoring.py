"""The scoring of a run's result by real supervisors with fake stages: kills, requests, failures."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from halos_backend.errors import ExitCode
from halos_backend.events import GuardTripped, RoundStarted
from halos_backend.store.job import LabelInputs, SampleInputs, read_job
from halos_backend.store.requests import Abort, Extend, Pause, Retry
from halos_backend.store.round_state import RoundState

from tests.support.fake_run import FakeRun
from tests.support.waiting import DEADLINE_S, wait_for

MakeRun = Callable[..., FakeRun]
ROUND_1 = [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]
SCORING = [(2, "sample", 1), (2, "label", 1)]
FINAL = "rounds/0001/train/attempt_1/checkpoint"


@pytest.fixture
def scored_run(make_run: MakeRun) -> FakeRun:
    """A run of one round whose result is scored."""
    return make_run(score_final=None)


def closing(run: FakeRun) -> RoundState:
    found = run.state.closing
    assert found is not None
    return found


def check_result(run: FakeRun, status: str = "completed") -> None:
    assert run.state.status == status
    assert run.state.num_rounds == 1
    assert str(run.dir.final.readlink()) == FINAL


def test_the_result_is_scored_by_a_sample_and_a_label_stage(scored_run: FakeRun) -> None:
    run = scored_run
    run.summarize(r2_label={"reward_mean": 0.75})

    assert run.supervise() == ExitCode.COMPLETED

    check_result(run)
    assert run.attempts == [*ROUND_1, *SCORING]
    assert closing(run).stages["label"].summary.reward_mean == 0.75
    sample = read_job(run.dir.attempt(2, "sample", 1).job).inputs
    assert isinstance(sample, SampleInputs)
    assert (sample.policy, sample.policy_version) == (str(run.dir.path / FINAL), 1)
    assert (sample.prompts, sample.cursor, sample.num_prompts) == (str(run.dir.prompts), 2, 2)
    label = read_job(run.dir.attempt(2, "label", 1).job).inputs
    assert isinstance(label, LabelInputs)
    assert not label.wants_feedback


def test_it_is_scored_on_held_out_prompts_where_there_are_any(make_run: MakeRun) -> None:
    run = make_run(score_final=None, num_held_out=5)
    run.supervise()
    (started,) = [e for e in run.events if isinstance(e, RoundStarted) and e.closing]
    assert (started.closing, started.num_prompts) == ("held_out", 5)
    sample = read_job(run.dir.attempt(2, "sample", 1).job).inputs
    assert isinstance(sample, SampleInputs)
    assert (sample.prompts, sample.cursor) == (str(run.dir.held_out), 0)


@pytest.mark.parametrize("stage", ["sample", "label"])
def test_after_a_kill_the_next_supervisor_goes_on_with_the_scoring(
    scored_run: FakeRun, stage: Any
) -> None:
    run = scored_run
    run.behave(**{f"r2_{stage}_1": "hold"})
    supervisor = run.start()
    attempt = run.hold(2, stage)
    run.kill(supervisor)
    following = run.start()
    run.supervisor()
    run.release(attempt)

    assert following.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    check_result(run)
    assert run.attempts == [*ROUND_1, *SCORING]
    assert closing(run).unscored is None


def test_a_stage_of_it_that_dies_is_tried_again(scored_run: FakeRun) -> None:
    scored_run.behave(r2_label_1="die")
    scored_run.supervise(TEST_RETRY_DELAY_S="0")
    check_result(scored_run)
    assert scored_run.attempts[-1] == (2, "label", 2)
    assert closing(scored_run).unscored is None


def test_a_result_that_cannot_be_scored_stands_and_a_retry_scores_it(scored_run: FakeRun) -> None:
    run = scored_run
    run.behave(r2_label_1="run out of memory")

    assert run.supervise() == ExitCode.COMPLETED

    check_result(run)
    assert closing(run).unscored == "label: the GPU is full"
    reason = run.state.reason or ""
    assert reason.endswith("the final policy has no score: label: the GPU is full")

    run.ask(Retry(request_id="r"))
    assert run.supervise() == ExitCode.COMPLETED

    check_result(run)
    assert run.attempts[-1] == (2, "label", 2)
    assert closing(run).unscored is None
    assert run.state.reason == "all 1 rounds are done"


def test_a_scored_run_has_nothing_to_retry(scored_run: FakeRun) -> None:
    scored_run.supervise()
    scored_run.ask(Retry(request_id="r"))
    scored_run.supervise()
    assert scored_run.events[-1].reason == "the run run is completed: no stage of it has failed"


def test_an_abort_of_the_scoring_leaves_the_result(scored_run: FakeRun) -> None:
    run = scored_run
    run.behave(r2_sample_1="hold")
    supervisor = run.start()
    run.hold(2, "sample")
    run.ask(Abort(request_id="a"))
    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    check_result(run, "aborted")


def test_the_scoring_is_paused_and_resumed_at_the_stage(scored_run: FakeRun) -> None:
    run = scored_run
    run.behave(r2_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(2, "sample")
    run.ask(Pause(request_id="p", at="stage"))
    wait_for(lambda: run.state.status == "pausing")
    run.release(attempt)
    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    check_result(run, "paused")
    run.resume()
    check_result(run)
    assert run.attempts == [*ROUND_1, *SCORING]


def test_sigterm_in_the_scoring_pauses_the_run(scored_run: FakeRun) -> None:
    run = scored_run
    run.behave(r2_label_1="hold")
    supervisor = run.start()
    run.hold(2, "label")
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(timeout=DEADLINE_S)
    check_result(run, "paused")
    run.resume()
    check_result(run)
    assert run.attempts[-1] == (2, "label", 2)


def test_an_extended_run_trains_where_it_was_scored_and_scores_its_new_result(
    scored_run: FakeRun,
) -> None:
    run = scored_run
    run.supervise()
    run.ask(Extend(request_id="e", num_rounds=1))

    assert run.supervise() == ExitCode.COMPLETED

    assert [(round.cursor, round.closing) for round in run.state.rounds] == [
        (0, None), (2, None), (4, "next")
    ]  # fmt: skip
    assert str(run.dir.final.readlink()) == "rounds/0002/train/attempt_1/checkpoint"
    again = [(2, "sample", 2), (2, "label", 2), (2, "train", 1)]
    assert run.attempts == [*ROUND_1, *SCORING, *again, (3, "sample", 1), (3, "label", 1)]


def test_no_guard_stops_a_run_that_is_done(make_run: MakeRun) -> None:
    guard = {"metric": "reward_mean", "below": 0.0, "action": "abort"}
    run = make_run(score_final=None, guards={"low": guard})
    run.summarize(r2_label={"reward_mean": -1.0})
    run.supervise()
    check_result(run)
    assert not [event for event in run.events if isinstance(event, GuardTripped)]

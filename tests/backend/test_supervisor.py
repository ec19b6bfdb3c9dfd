"""The supervisor as a process: rounds, failures, and what resume makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from halos_backend.errors import ExitCode
from halos_backend.events import (
    STAGES,
    CheckpointPruned,
    RoundFinished,
    RunFailed,
    StageFinished,
    SupervisorStarted,
)
from halos_backend.store.job import read_job

from tests.support.fake_run import FakeRun

MakeRun = Callable[..., FakeRun]


ROUND_1 = [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]


def test_three_rounds_leave_a_result_and_nothing_superfluous(make_run: MakeRun) -> None:
    run = make_run(num_rounds=3, keep_checkpoints=1, keep_best=False)

    assert run.supervise() == ExitCode.COMPLETED

    state = run.state
    assert state.status == "completed"
    assert state.reason == "all 3 rounds are done"
    assert run.attempts == [(number, stage, 1) for number in (1, 2, 3) for stage in STAGES]
    assert [round.cursor for round in state.rounds] == [0, 2, 4]
    for number in (1, 2, 3):
        written = json.loads(run.dir.round_settings(number).read_text())
        assert written == state.rounds[number - 1].settings
        assert written["train"]["loss"]["kind"] == "dpo"
    assert str(run.dir.final.readlink()) == "rounds/0003/train/attempt_1/checkpoint"
    assert (run.dir.final / "model.safetensors").is_file()
    on_disk = [
        (number, name)
        for number in (1, 2, 3)
        for name in ("checkpoint", "trainer_state", "partial_state")
        if (run.dir.attempt(number, "train", 1).path / name).exists()
    ]
    assert on_disk == [(3, "checkpoint"), (3, "trainer_state")]
    pruned = [event for event in run.events if isinstance(event, CheckpointPruned)]
    assert all(not (run.dir.path / event.path).exists() for event in pruned)
    assert sum(event.freed_bytes for event in pruned) > 0
    finishes = [event for event in run.events if isinstance(event, RoundFinished)]
    assert finishes[0].metrics["reward_mean"] == 0.5
    assert run.log == ""


def test_a_checkpoint_is_pruned_only_after_its_successor_is_recorded(make_run: MakeRun) -> None:
    run = make_run(num_rounds=3, keep_checkpoints=1, keep_best=False)
    run.supervise()

    finished_rounds: set[int] = set()
    for event in run.events:
        match event:
            case RoundFinished(round=round):
                finished_rounds.add(round)
            case CheckpointPruned(round=round, path=path) if "partial_state" not in path:
                assert round + 1 in finished_rounds


def test_every_stage_ran_with_its_job_in_its_own_directory(make_run: MakeRun) -> None:
    run = make_run()
    run.supervise()

    for event in run.events:
        if isinstance(event, StageFinished):
            attempt = run.dir.attempt(event.round, event.stage, event.attempt)
            job = read_job(attempt.job)
            assert (job.round, job.stage, job.attempt) == (1, event.stage, 1)
            assert attempt.log.read_text() == f"stage 1/{event.stage}/1\n"
            assert msgspec.json.decode(attempt.exit.read_bytes())["exit_code"] == 0
            assert event.elapsed_s > 0


def test_a_round_without_feedback_is_skipped_over(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.summarize(r1_label={"num_feedback": 0})

    assert run.supervise() == ExitCode.COMPLETED

    assert run.attempts == [*ROUND_1[:2], (2, "sample", 1), (2, "label", 1), (2, "train", 1)]
    assert run.state.rounds[0].untrained is not None
    assert str(run.dir.final.readlink()) == "rounds/0002/train/attempt_1/checkpoint"


def test_a_run_without_any_feedback_completes_without_a_result(make_run: MakeRun) -> None:
    run = make_run()
    run.summarize(r1_label={"num_feedback": 0, "num_unscored": 4})

    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "completed"
    assert not run.dir.final.is_symlink()


@pytest.mark.parametrize(
    ("behaviour", "exit_code", "reason"),
    [
        ("fail", 7, "exit code 7 and no DONE"),
        ("say why and fail", 1, "no GPU is left"),
        ("leave no DONE", 0, "exit code 0 and no DONE"),
        ("damage an output", 0, "bytes, not"),
        ("die", -9, "killed by signal 9"),
        ("fail with a corrupt journal", 1, "events.jsonl, line 1"),
    ],
)
def test_a_failed_stage_is_tried_again_at_once(
    make_run: MakeRun, behaviour: str, exit_code: int, reason: str
) -> None:
    run = make_run()
    run.behave(r1_label_1=behaviour)

    assert run.supervise() == ExitCode.COMPLETED

    (failure,) = run.failures
    assert (failure.stage, failure.attempt, failure.exit_code) == ("label", 1, exit_code)
    assert reason in failure.reason
    assert failure.last_lines[0] == "stage 1/label/1"
    assert run.attempts == [ROUND_1[0], (1, "label", 1), (1, "label", 2), ROUND_1[2]]
    first, second = (run.dir.attempt(1, "label", number) for number in (1, 2))
    assert read_job(second.job).earlier_attempts == (str(first.path),)
    assert first.log.exists(), "a failed attempt stays as evidence"
    assert run.state.status == "completed"


def test_attempts_that_leave_nothing_new_end_with_the_run_waiting_for_its_owner(
    make_run: MakeRun,
) -> None:
    run = make_run(max_attempts=2)
    run.behave(r1_label_1="fail", r1_label_2="die")

    assert run.supervise() == ExitCode.COMPLETED, "the supervisor did its work"

    assert run.state.status == "failed"
    assert run.state.reason == ("its process was killed by signal 9 (2 attempts without progress)")
    assert run.supervise() == ExitCode.COMPLETED
    assert run.state.status == "failed", "only its owner makes it go on"
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"
    assert run.attempts[-2:] == [(1, "label", 3), (1, "train", 1)]


def test_attempts_that_leave_more_each_time_do_not_count(make_run: MakeRun) -> None:
    run = make_run(max_attempts=1)
    run.behave(
        r1_sample_1="leave 1 row and fail",
        r1_sample_2="leave 2 rows and fail",
        r1_sample_3="leave 3 rows and fail",
    )

    assert run.supervise() == ExitCode.COMPLETED

    assert [failure.durable for failure in run.failures] == [1, 2, 3]
    assert run.state.status == "completed"


def test_an_attempt_that_leaves_as_much_as_the_one_before_counts(make_run: MakeRun) -> None:
    run = make_run(max_attempts=1)
    run.behave(r1_sample_1="leave 2 rows and fail", r1_sample_2="leave 2 rows and fail")

    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "failed"
    assert len(run.failures) == 2


def test_a_cause_that_would_only_repeat_waits_for_the_owner_at_once(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_train_1="run out of memory")

    assert run.supervise() == ExitCode.COMPLETED

    (failure,) = run.failures
    assert (failure.cause, failure.reason) == ("out_of_memory", "the GPU is full")
    assert run.state.status == "failed"
    assert run.state.reason == "the GPU is full"
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_a_checkpoint_damaged_before_the_round_ended_is_trained_again(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_train_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "train")
    run.kill(supervisor)
    run.release(attempt)
    journal = run.dir.events.read_bytes()
    assert run.supervise() == ExitCode.COMPLETED
    # as if the supervisor had died between the stage's end and the round's
    lines = run.dir.events.read_bytes().splitlines(keepends=True)
    ended = next(n for n, line in enumerate(lines) if b"StageFinished" in line and b"train" in line)
    run.dir.events.write_bytes(b"".join(lines[: ended + 1]))
    assert run.dir.events.read_bytes().startswith(journal)
    weights = attempt.checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    assert run.supervise() == ExitCode.COMPLETED

    assert "the checkpoint of round 1 is damaged" in run.failures[-1].reason
    assert run.failures[-1].cause == "damaged"
    assert run.state.status == "completed"
    assert str(run.dir.final.readlink()) == "rounds/0001/train/attempt_2/checkpoint"


def test_every_start_of_a_supervisor_counts(make_run: MakeRun) -> None:
    run = make_run(max_attempts=1)
    run.behave(r1_sample_1="fail", r1_train_1="fail")
    run.supervise()
    run.resume()
    run.resume()

    starts = [event for event in run.events if isinstance(event, SupervisorStarted)]
    assert [event.generation for event in starts] == [1, 2, 3]


def test_a_supervisor_of_an_ended_run_changes_nothing(make_run: MakeRun) -> None:
    run = make_run()
    run.supervise()
    before = run.dir.events.read_bytes()

    assert run.supervise() == ExitCode.COMPLETED
    assert run.dir.events.read_bytes() == before


def test_a_torn_journal_is_mended_and_the_run_goes_on(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "label")
    run.kill(supervisor)
    run.release(attempt)
    with run.dir.events.open("ab") as file:
        file.write(b'{"type":"RunPaused","t":1')

    assert run.supervise() == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_a_corrupt_journal_is_named_and_left_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    content = run.dir.events.read_bytes()
    run.dir.events.write_bytes(content + b"rubbish\n")

    assert run.supervise() == ExitCode.FAILED

    assert "events.jsonl, line 2: " in run.log
    assert "Traceback" not in run.log
    assert run.dir.events.read_bytes() == content + b"rubbish\n"
    run.dir.events.write_bytes(content)


def test_what_is_no_run_directory_is_not_made_one(make_run: MakeRun) -> None:
    run = make_run()
    journal = run.dir.events.read_bytes()
    run.dir.events.unlink()

    assert run.supervise() == ExitCode.NO_SUCH_RUN

    assert sorted(path.name for path in run.dir.path.iterdir()) == ["config.resolved.json"]
    run.dir.events.write_bytes(journal)


def test_settings_that_cannot_be_read_are_named(make_run: MakeRun) -> None:
    run = make_run()
    journal = run.dir.events.read_bytes()
    run.dir.events.write_bytes(journal.replace(b'"prompts_per_round":2', b'"prompts_per_round":-2'))

    assert run.supervise() == ExitCode.FAILED
    assert "loop.prompts_per_round" in run.log
    assert "Traceback" not in run.log


def test_a_stage_that_leaves_helpers_behind_leaves_none(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="leave a helper")

    assert run.supervise() == ExitCode.COMPLETED

    assert (run.dir.attempt(1, "sample", 1).path / "pids").exists()
    assert run.processes() == []
    assert run.state.status == "completed"


def test_a_checkpoint_that_cannot_be_deleted_fails_the_run_resumably(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.behave(r2_train_1="hold")
    supervisor = run.start()
    attempt = run.hold(2, "train")
    # a file where a directory should be: rmtree refuses it, as a foreign file system might
    state = run.dir.attempt(1, "train", 1).trainer_state
    state.rename(state.with_name("aside"))
    state.write_text("")
    run.release(attempt)
    assert supervisor.wait(timeout=30) == ExitCode.COMPLETED
    assert run.state.status == "failed"
    (failure,) = [event for event in run.events if isinstance(event, RunFailed)]
    assert "trainer_state" in failure.reason

    state.unlink()
    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"

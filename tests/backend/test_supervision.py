"""The supervisor among signals, crashes, full disks and requests."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from halos_backend.client.start import interrupt_supervisor, start_supervisor
from halos_backend.errors import ExitCode, HalosError, RunInUseError
from halos_backend.events import (
    AbortRequested,
    RequestRejected,
    RunAborted,
    RunEvent,
    RunPaused,
    RunResumed,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStarted,
    SupervisorStarted,
)
from halos_backend.interpreters.programs import ATTEMPT_TAG
from halos_backend.store import requests
from halos_backend.store.identity import is_alive, lock_holder
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import fold
from halos_backend.supervisor.plan import StartStage
from halos_backend.supervisor.processes.stage_runner import StageRunner

from tests.support.drive_supervisor import fake_command
from tests.support.fake_run import MARK, FakeRun
from tests.support.journals import round_started, settings
from tests.support.waiting import DEADLINE_S, wait_for

MakeRun = Callable[..., FakeRun]
LONG_GRACE = {"TEST_GRACE_S": "600"}
SHORT_GRACE = {"TEST_GRACE_S": "0.1"}


def of_type(run: FakeRun, kind: type) -> list[object]:
    return [event for event in run.events if isinstance(event, kind)]


# --- told to stop ---------------------------------------------------------------------------


def test_sigterm_ends_the_whole_tree_of_the_stage_and_pauses_the_run(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    supervisor = run.start()
    attempt = run.hold(1, "label")
    pids = json.loads((attempt.path / "pids").read_text())
    assert set(pids) < set(run.processes()), "own session, no tag, orphaned without a tag"

    supervisor.send_signal(signal.SIGTERM)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.processes() == []
    (failure,) = run.failures
    assert failure.reason.startswith("interrupted")
    assert run.events[-1] == RunPaused(t=run.events[-1].t, reason="interrupted")
    assert run.state.status == "paused"

    assert run.supervise() == ExitCode.COMPLETED
    assert run.state.status == "paused", "only its owner makes it go on"
    assert run.resume() == ExitCode.COMPLETED

    assert run.state.status == "completed"
    assert run.attempts == [
        (1, "sample", 1),
        (1, "label", 1),
        (1, "label", 2),
        (1, "train", 1),
    ]


def test_a_stage_that_ignores_sigterm_is_killed_after_the_grace(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold and ignore SIGTERM")
    supervisor = run.start(**SHORT_GRACE)
    run.hold(1, "sample")

    supervisor.send_signal(signal.SIGTERM)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.failures[0].exit_code == -signal.SIGKILL
    assert run.state.status == "paused"


def test_requests_are_answered_and_the_heart_beats_during_the_grace(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold and ignore SIGTERM")
    supervisor = run.start(**LONG_GRACE)
    attempt = run.hold(1, "sample")
    supervisor.send_signal(signal.SIGTERM)
    beats = run.dir.heartbeat.read_text()

    requests.send(run.dir, requests.Abort(request_id="stop-it"))

    assert requests.wait_for_answer(run.dir, "stop-it", timeout_s=DEADLINE_S)
    assert run.state.status == "aborting"
    wait_for(lambda: run.dir.heartbeat.read_text() != beats)
    assert supervisor.poll() is None
    run.release(attempt)
    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "aborted"


def test_a_stage_that_was_done_when_told_to_stop_counts(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold and ignore SIGTERM")
    supervisor = run.start(**LONG_GRACE)
    attempt = run.hold(1, "sample")
    supervisor.send_signal(signal.SIGTERM)
    manifest = {"files": [], "summary": {"num_prompts": 2}, "schema_version": 1}
    attempt.done.write_text(json.dumps(manifest))
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED

    assert run.failures == []
    assert run.state.status == "paused"
    assert run.resume() == ExitCode.COMPLETED
    assert [stage for _, stage, _ in run.attempts] == ["sample", "label", "train"]


def test_a_closed_terminal_and_ctrl_c_are_no_reasons_to_stop(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    attempt = run.hold(1, "sample")

    supervisor.send_signal(signal.SIGHUP)
    supervisor.send_signal(signal.SIGINT)
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_exit_codes_are_seen_under_a_parent_that_ignores_its_children(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="fail")
    ignore = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        " os.execv(sys.argv[1], sys.argv[1:])"
    )

    run.supervise(prefix=[sys.executable, "-S", "-c", ignore])

    assert run.failures[0].exit_code == 7


# --- died -----------------------------------------------------------------------------------


def test_a_stage_outlives_its_supervisor_and_the_next_one_adopts_it(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    first = run.start()
    attempt = run.hold(1, "label")
    run.kill(first)
    stage = run.state.rounds[0].stages["label"].process
    assert stage is not None
    assert is_alive(stage)

    second = run.start()
    wait_for(lambda: of_type(run, StageAdopted))
    assert is_alive(stage)
    run.release(attempt)

    assert second.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]
    assert run.state.status == "completed"
    assert of_type(run, RunResumed) == []
    starts = of_type(run, SupervisorStarted)
    assert [(start.after_crash, start.went_on) for start in starts] == [
        (False, ()),
        (True, ("label",)),
    ]


def test_an_adopted_stage_can_be_stopped_with_its_tree(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    first = run.start()
    run.hold(1, "label")
    run.kill(first)
    second = run.start()
    wait_for(lambda: of_type(run, StageAdopted))

    second.send_signal(signal.SIGTERM)

    assert second.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.processes() == []
    assert run.failures[0].exit_code is None, "it was not this supervisor's child"
    assert run.state.status == "paused"


def test_a_stage_that_finished_while_nobody_watched_counts(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    first = run.start()
    attempt = run.hold(1, "label")
    run.kill(first)
    run.release(attempt)
    stage = run.state.rounds[0].stages["label"].process
    assert stage is not None
    wait_for(lambda: not is_alive(stage))

    assert run.supervise() == ExitCode.COMPLETED

    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]
    assert run.processes() == [], "the helper that it left is gone too"


@pytest.mark.parametrize("damage", ["it was killed", "a byte flipped"])
def test_a_stage_that_broke_while_nobody_watched_is_tried_again(
    make_run: MakeRun, damage: str
) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    first = run.start()
    attempt = run.hold(1, "label")
    stage = run.state.rounds[0].stages["label"].process
    assert stage is not None
    run.kill(first)
    if damage == "it was killed":
        os.kill(stage.pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(stage))
    else:
        run.release(attempt)
        wait_for(lambda: not is_alive(stage))
        content = bytearray(attempt.scores.read_bytes())
        content[-1] ^= 1
        attempt.scores.write_bytes(content)

    assert run.supervise() == ExitCode.COMPLETED

    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "label", 2), (1, "train", 1)]
    assert run.state.status == "completed"
    assert (damage == "a byte flipped") == ("not those that were written" in run.failures[0].reason)


def test_a_process_that_the_journal_does_not_know_is_killed_and_its_attempt_left_alone(
    make_run: MakeRun,
) -> None:
    """A supervisor died after it had started a stage and before it had written that down."""
    run = make_run()
    attempt = run.dir.attempt(1, "sample", 1)
    attempt.path.mkdir(parents=True)
    attempt.completions.write_text("half a row")
    tags = {ATTEMPT_TAG: str(attempt.path), MARK: str(run.dir.path)}
    with subprocess.Popen(["sleep", "1000"], env=tags) as unknown:
        assert run.supervise() == ExitCode.COMPLETED
        assert unknown.wait(timeout=DEADLINE_S) == -signal.SIGKILL

    assert run.attempts == [(1, "sample", 2), (1, "label", 1), (1, "train", 1)]
    assert attempt.completions.read_text() == "half a row"
    job = json.loads(run.dir.attempt(1, "sample", 2).job.read_text())
    assert job["earlier_attempts"] == [str(attempt.path)]


def test_a_second_supervisor_is_refused_with_the_holders_identity(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    first = run.start()
    attempt = run.hold(1, "sample")

    assert run.supervise() == ExitCode.RUN_IN_USE

    assert f"supervised already by process {first.pid} on " in run.log
    assert "Traceback" not in run.log
    with pytest.raises(RunInUseError, match=f"process {first.pid} "):
        start_supervisor(run.dir)
    run.release(attempt)
    assert first.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.generation == 1


def test_a_stage_whose_start_cannot_be_written_down_does_not_run(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    attempt = run.dir.attempt(1, "sample", 1)

    def record(event: RunEvent) -> None:
        wait_for(lambda: (attempt.path / "holding").exists())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made = settings(num_rounds=1, prompts_per_round=2)
    state = fold([round_started(1, made)], run.state)
    runner = StageRunner(run.dir, record, run_slow=lambda work: work(), command=fake_command)

    with pytest.raises(OSError, match="No space left"):
        runner.start(StartStage(1, "sample", 1), state, made)

    assert run.processes() == []


# --- requests -------------------------------------------------------------------------------


def test_abort_stops_the_stage_and_keeps_the_last_result(make_run: MakeRun) -> None:
    run = make_run(num_rounds=2)
    run.behave(r2_label_1="hold with all sorts of helpers")
    supervisor = run.start()
    run.hold(2, "label")

    requests.send(run.dir, requests.Abort(request_id="stop-it"))

    assert requests.wait_for_answer(run.dir, "stop-it", timeout_s=DEADLINE_S)
    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.processes() == []
    assert run.state.status == "aborted"
    assert run.events[-1] == RunAborted(t=run.events[-1].t, request_id="stop-it")
    assert str(run.dir.final.readlink()) == "rounds/0001/train/attempt_1/checkpoint"
    assert [path.name for path in run.dir.control.iterdir()] == ["done"]


@pytest.mark.parametrize("stage_dies_too", [False, True])
def test_an_abort_is_obeyed_by_the_next_supervisor_when_the_first_dies_over_it(
    make_run: MakeRun, stage_dies_too: bool
) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold and ignore SIGTERM")
    first = run.start(**LONG_GRACE)
    run.hold(1, "sample")
    requests.send(run.dir, requests.Abort(request_id="stop-it"))
    wait_for(lambda: of_type(run, AbortRequested))
    run.kill(first)
    stage = run.state.rounds[0].stages["sample"].process
    assert stage is not None
    if stage_dies_too:
        os.kill(stage.pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(stage))

    assert run.supervise(**SHORT_GRACE) == ExitCode.COMPLETED

    assert run.state.status == "aborted"
    assert len(of_type(run, StageStarted)) == 1
    assert run.processes() == []


@pytest.mark.parametrize("status", ["created", "failed"])
def test_an_abort_that_waits_for_a_supervisor_comes_before_any_stage(
    make_run: MakeRun, status: str
) -> None:
    run = make_run(max_attempts=1)
    if status == "failed":
        run.behave(r1_sample_1="fail")
        run.supervise()
    started = len(run.attempts)
    requests.send(run.dir, requests.Abort(request_id="stop-it"))

    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "aborted"
    assert len(run.attempts) == started


def test_a_request_is_applied_once_however_often_it_lies_there(make_run: MakeRun) -> None:
    run = make_run()
    for name in ("1-stop-it.json", "2-stop-it.json"):
        run.dir.control.mkdir(exist_ok=True)
        (run.dir.control / name).write_text('{"type":"abort","request_id":"stop-it"}')

    assert run.supervise() == ExitCode.COMPLETED

    assert len(of_type(run, AbortRequested)) == 1
    assert len(list(run.dir.answered.iterdir())) == 2


def test_a_request_to_an_ended_run_is_rejected(make_run: MakeRun) -> None:
    run = make_run()
    run.supervise()
    requests.send(run.dir, requests.Abort(request_id="stop-it"))

    assert run.supervise() == ExitCode.COMPLETED

    (rejected,) = of_type(run, RequestRejected)
    assert isinstance(rejected, RequestRejected)
    assert (rejected.request_id, rejected.reason) == ("stop-it", "the run run is completed already")
    assert run.state.status == "completed"


def test_what_is_no_request_is_filed_away_and_does_nothing(make_run: MakeRun) -> None:
    run = make_run()
    outside = run.dir.path.parent / "outside.json"
    outside.write_text('{"type":"abort","request_id":"x"}')
    directory = run.dir.control
    directory.mkdir()
    rubbish = {
        "01.json": b"",
        "02.json": b"{",
        "03.json": b"\xff\xfe",
        "04.json": b"[" * 60_000,
        "05.json": b'{"type":"abort","request_id":"x","a":' + b"[" * 60_000,
        "06.json": b'{"type":"abort","request_id":"' + b"x" * 70_000 + b'"}',
        "07.json": b'{"type":"abort","request_id":"\xff"}',
        "08.json": b'{"type":"abort","request_id":"../../up"}',
        "09.json": b'{"type":"abort","request_id":""}',
        "10.json": b'{"type":"reboot","request_id":"x"}',
        "11.json": b"7",
        os.fsdecode(b"12-\xff\x1b[2J.json"): b"{}",
    }
    for name, content in rubbish.items():
        (directory / name).write_bytes(content)
    (directory / "20.json").symlink_to(outside)
    (directory / "21.json").symlink_to("/dev/zero")
    (directory / "22.json").symlink_to("nowhere")
    os.mkfifo(directory / "23.json")
    (directory / "24.json").mkdir()
    (directory / "notes.txt").write_text("not in the way")
    (directory / ".25.json.99.tmp").write_text("being written")

    assert run.supervise() == ExitCode.COMPLETED

    assert run.state.status == "completed"
    assert len(of_type(run, RequestRejected)) == len(rubbish) + 5
    left = {path.name for path in directory.iterdir()}
    assert left == {"done", "notes.txt", ".25.json.99.tmp"}
    assert outside.read_text() == '{"type":"abort","request_id":"x"}'
    assert run.log == ""


def test_a_request_that_cannot_be_filed_away_is_answered_once(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    run.dir.control.mkdir()
    run.dir.answered.write_text("a file where a directory belongs")
    (run.dir.control / "1.json").write_text("rubbish")
    supervisor = run.start()
    attempt = run.hold(1, "sample")
    run.release(attempt)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert len(of_type(run, RequestRejected)) == 1


# --- disks ----------------------------------------------------------------------------------


def test_wherever_the_disk_fills_up_nothing_is_lost_and_resume_goes_on(make_run: MakeRun) -> None:
    """The limit moves along the journal, which is the largest file but for the snapshot."""
    run = make_run()
    begin = run.dir.events.read_bytes()
    limits = [len(begin) + 1, len(begin) + 150, *range(len(begin) + 300, 9000, 450)]
    seen: set[int] = set()
    for limit in limits:
        size = run.dir.events.stat().st_size
        if run.state.status == "failed":
            run.ask(requests.Resume(request_id=requests.new_request_id()))
        code = run.supervise(TEST_FILE_LIMIT=str(max(limit, size + 30)))
        seen.add(code)
        if run.state.status == "completed":
            break
        assert "Traceback" not in run.log
        assert run.dir.events.read_bytes().endswith(b"\n")
        wait_for(lambda: run.processes() == [])

    assert run.resume() == ExitCode.COMPLETED
    assert run.state.status == "completed"
    assert ExitCode.FAILED in seen
    assert os.strerror(errno.EFBIG) in run.log
    assert "halos-tui resume run" in run.log
    finished = [(e.round, e.stage) for e in run.events if isinstance(e, StageFinished)]
    assert len(finished) == len(set(finished)) == 3, "no finished stage was done again"


def test_a_snapshot_and_a_heartbeat_that_cannot_be_written_are_no_reason_to_fail(
    make_run: MakeRun,
) -> None:
    run = make_run()
    (run.dir.state / "in the way").mkdir(parents=True)
    (run.dir.heartbeat / "in the way").mkdir(parents=True)

    assert run.supervise() == ExitCode.COMPLETED
    assert run.state.status == "completed"


WITHOUT_PRIVILEGE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root obeys modes without them
    libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_read_only_run_directory_is_named_in_one_line(make_run: MakeRun) -> None:
    run = make_run()
    before = run.dir.events.read_bytes()
    run.dir.path.chmod(0o500)
    try:
        code = run.supervise(prefix=[sys.executable, "-S", "-c", WITHOUT_PRIVILEGE])
    finally:
        run.dir.path.chmod(0o700)

    assert code == ExitCode.FAILED
    (line,) = run.log.splitlines()
    assert "Permission denied" in line
    assert "supervisor.lock" in line
    assert run.dir.events.read_bytes() == before


# --- as clients start it --------------------------------------------------------------------


def test_starting_a_supervisor_of_an_ended_run_is_no_error(make_run: MakeRun) -> None:
    run = make_run()
    run.supervise()

    start_supervisor(run.dir)

    wait_for(lambda: lock_holder(run.dir) is None)
    assert run.state.status == "completed"


def test_a_supervisor_that_does_not_start_says_why(make_run: MakeRun) -> None:
    run = make_run()
    journal = run.dir.events.read_bytes()
    run.dir.events.write_bytes(journal + b"rubbish\n")

    with pytest.raises(HalosError, match=r"(?s)did not start:.*events\.jsonl, line 2"):
        start_supervisor(run.dir)
    run.dir.events.write_bytes(journal)


def test_a_run_without_a_supervisor_can_be_interrupted_without_harm(tmp_path: Path) -> None:
    interrupt_supervisor(RunDir(tmp_path))


def test_interrupting_signals_the_holder_of_the_lock(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    supervisor = run.start()
    run.hold(1, "sample")

    interrupt_supervisor(run.dir)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert [type(event) for event in run.events[-2:]] == [StageFailed, RunPaused]

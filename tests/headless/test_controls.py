"""The verbs that control a run, against real supervisors with fake stages."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from halos_backend.client.ask import asker
from halos_backend.events import (
    AbortRequested,
    AnswerEvent,
    RequestRejected,
    RunEvent,
    RunExtended,
    RunResumed,
    SettingsChanged,
)
from halos_backend.store.identity import lock_holder

from tests.support.command_line import WITH_FAKE_STAGES, start_halos
from tests.support.fake_run import MARK, SUPERVISOR, FakeRun
from tests.support.forks import forking
from tests.support.waiting import DEADLINE_S, wait_for

Start = Callable[..., subprocess.Popen[str]]
Verb = Callable[..., subprocess.CompletedProcess[str]]
MakeRun = Callable[..., FakeRun]


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a verb; the supervisors that it starts have fake stages.

    It begins with its modules imported, but where `is_plain` or it has variables of its own.
    """
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, is_plain: bool = False, **more: str) -> subprocess.Popen[str]:
        process = start_halos(
            *arguments,
            program=WITH_FAKE_STAGES if is_plain or more else forking("tests.support.drive_halos"),
            environment={**environment, MARK: str(tmp_path / "runs" / "a-run"), **more},
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def verb(start: Start) -> Verb:
    """Run a verb to its end."""

    def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **more)
        stdout, stderr = process.communicate(timeout=60)
        assert "Traceback" not in stderr, stderr
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return run


@pytest.fixture
def make_run(runs: Path) -> Iterator[MakeRun]:
    made: list[FakeRun] = []

    def make(*, is_plain: bool = False, **loop: Any) -> FakeRun:
        """Unless `is_plain` its first supervisor begins with its modules imported."""
        supervisor = SUPERVISOR if is_plain else forking("tests.support.drive_supervisor")
        made.append(FakeRun(runs / "a-run", supervisor=supervisor, **loop))
        return made[-1]

    yield make
    for run in made:
        wait_for(lambda run=run: lock_holder(run.dir) is None or _stop(run))
        wait_for(lambda run=run: run.processes() == [])
        run.check()


def _stop(run: FakeRun) -> bool:
    """Have what a failed test left end; a guardian goes with its supervisor."""
    if (holder := lock_holder(run.dir)) is not None and run.state.status != "completed":
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGCONT)
            os.kill(holder.pid, signal.SIGTERM)
    return False


def _of_type(run: FakeRun, kind: type) -> list[Any]:
    return [event for event in run.events if isinstance(event, kind)]


def _held(make_run: MakeRun, **loop: Any) -> FakeRun:
    """A supervised run whose first stage holds."""
    run = make_run(**loop)
    run.behave(r1_sample_1="hold")
    run.start()
    run.hold(1, "sample")
    return run


def _go_on(run: FakeRun) -> None:
    run.release(run.dir.attempt(1, "sample", 1))


def _failed(make_run: MakeRun, **loop: Any) -> FakeRun:
    """A run that waits for its owner: memory ran out in the first round's training."""
    run = make_run(**loop)
    run.behave(r1_train_1="run out of memory")
    run.supervise()
    assert run.state.status == "failed"
    return run


def _completed(make_run: MakeRun, **loop: Any) -> FakeRun:
    run = make_run(**loop)
    run.supervise()
    assert run.state.status == "completed"
    return run


def _last_answer(run: FakeRun) -> RunEvent:
    answers = (event for event in reversed(run.events) if isinstance(event, AnswerEvent))
    return next(event for event in answers if event.request_id)


# --- pause and resume -----------------------------------------------------------------------


def test_a_run_pauses_at_the_end_of_its_round_and_is_resumed(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, num_rounds=2)

    paused = verb("pause", "a-run")

    assert (paused.returncode, paused.stdout) == (0, "")
    assert "pausing at the end of round 1" in paused.stderr
    assert "halos-tui resume a-run" in paused.stderr
    assert run.state.status == "pausing"
    _go_on(run)
    wait_for(lambda: run.state.status == "paused")
    assert len(run.attempts) == 3
    wait_for(lambda: lock_holder(run.dir) is None)

    resumed = verb("resume", "a-run")

    assert resumed.returncode == 0, resumed.stderr
    assert run.state.status == "completed"
    assert len(run.attempts) == 6
    said = [line[10:] for line in resumed.stdout.splitlines()]
    assert said[1] == "run goes on"
    assert said[2] == "round 2: 2 prompts", "only what happens from then on"


def test_pause_can_wait_for_the_boundary_of_a_stage(make_run: MakeRun, start: Start) -> None:
    run = _held(make_run)

    process = start("pause", "a-run", "--at", "stage", "--wait")
    wait_for(lambda: run.state.status == "pausing")
    assert run.state.pause_at == "stage"
    _go_on(run)

    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 6
    assert "pausing when sample of round 1 is done" in stderr
    assert "is paused" in stderr
    assert [stage for _, stage, _ in run.attempts] == ["sample"]


def test_a_pause_is_taken_back_by_resume(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run)
    verb("pause", "a-run")

    resumed = verb("resume", "a-run", "--detach")

    assert resumed.returncode == 0
    assert run.state.status == "running"
    _go_on(run)
    wait_for(lambda: run.state.status == "completed")


def test_pause_of_what_does_not_run_changes_nothing(make_run: MakeRun, verb: Verb) -> None:
    run = _completed(make_run)
    before = run.dir.events.read_bytes()

    refused = verb("pause", "a-run")

    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "is completed" in refused.stderr
    assert run.dir.events.read_bytes() == before


def test_resume_of_a_run_that_runs_is_exit_code_5(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run)

    refused = verb("resume", "a-run")

    assert (refused.returncode, refused.stdout) == (5, "")
    assert "halos-tui watch a-run" in refused.stderr
    assert _of_type(run, RunResumed) == []
    _go_on(run)


# --- retry and extend -----------------------------------------------------------------------


def test_retry_starts_a_new_attempt_of_the_failed_stage(make_run: MakeRun, verb: Verb) -> None:
    run = _failed(make_run)

    retried = verb("retry", "a-run", is_plain=True)

    assert retried.returncode == 0, retried.stderr
    assert run.attempts[-2:] == [(1, "train", 1), (1, "train", 2)]
    assert _of_type(run, RunResumed) != []


def test_retry_of_what_has_not_failed_is_refused(make_run: MakeRun, verb: Verb) -> None:
    run = _completed(make_run)
    before = run.dir.events.read_bytes()

    refused = verb("retry", "a-run")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no stage of it has failed" in refused.stderr
    assert run.dir.events.read_bytes() == before


def test_a_failed_run_says_what_it_waits_for_with_the_end_of_its_log(
    make_run: MakeRun, verb: Verb
) -> None:
    run = make_run()
    run.behave(r1_label_1="run out of memory")

    followed = verb("resume", "a-run")

    assert followed.returncode == 1
    lines = [line[10:] for line in followed.stdout.splitlines()]
    failure = "round 1 label: failed (out of memory): the GPU is full; it waits for its owner"
    assert failure in lines
    assert lines[lines.index(failure) + 1] == "round 1 label: | stage 1/label/1"
    assert "halos-tui set a-run KEY=VALUE" in followed.stderr


def test_extend_adds_rounds_to_a_completed_run(make_run: MakeRun, verb: Verb) -> None:
    run = _completed(make_run)

    extended = verb("extend", "a-run", "--rounds", "2", "--set", "train.lr=1e-3", is_plain=True)

    assert extended.returncode == 0, extended.stderr
    assert len(run.state.rounds) == 3
    assert [round.settings["train"]["lr"] for round in run.state.rounds] == [5e-6, 1e-3, 1e-3]
    (event,) = _of_type(run, RunExtended)
    assert (event.num_rounds, event.by) == (3, asker())
    assert (
        "run extended to 3 rounds: loop.num_rounds 1 -> 3, train.lr 5e-06 -> 0.001"
        in extended.stdout
    )


def test_extend_of_a_run_that_goes_on_is_refused(make_run: MakeRun, verb: Verb) -> None:
    _failed(make_run)

    refused = verb("extend", "a-run", "--rounds", "1")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "halos-tui set a-run loop.num_rounds=N" in refused.stderr


# --- set ------------------------------------------------------------------------------------


def test_a_changed_setting_holds_from_the_next_round_on(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, num_rounds=2)

    changed = verb("set", "a-run", "train.lr=1e-6", "train.loss.beta=0.2")

    assert (changed.returncode, changed.stdout) == (0, "")
    assert "train.lr 5e-06 -> 1e-06 from round 2\n" in changed.stderr
    assert "train.loss.beta 0.1 -> 0.2 from round 2\n" in changed.stderr
    assert "peak learning rate" in changed.stderr, "what follows from it"
    (event,) = _of_type(run, SettingsChanged)
    assert event.by == asker()
    status = verb("status", "a-run").stdout
    assert "from round 2: train.loss.beta 0.1 -> 0.2, train.lr 5e-06 -> 1e-06" in status
    back = verb("set", "a-run", "train.loss.beta=default")
    said = "train.loss.beta is 0.1, its default\ntrain.loss.beta 0.2 -> 0.1 from round 2\n"
    assert said in back.stderr, "what it is before it holds"
    back = verb("set", "a-run", "train.loss.beta=before", "train.lr=before")
    assert "train.loss.beta is 0.2, as before round 2\n" in back.stderr
    assert "train.lr 1e-06 -> 5e-06 from round 2\n" in back.stderr
    again = verb("set", "a-run", "train.lr=before")
    assert "train.lr 5e-06 -> 1e-06 from round 2\n" in again.stderr
    _go_on(run)
    wait_for(lambda: run.state.status == "completed")
    used = [json.loads(run.dir.round_settings(number).read_text()) for number in (1, 2)]
    assert [settings["train"]["lr"] for settings in used] == [5e-6, 1e-6]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train.lr=fast",), "train.lr: takes"),
        (("train.lr=",), "train.lr=default has its default hold"),
        (("train.lrr=1e-6",), "did you mean 'lr'?"),
        (("policy.path=/elsewhere",), "fixed for the run's life"),
        (("train.lr",), "write KEY=VALUE"),
        (("train.lr=5e-6",), "already"),
        (("train.lr=before",), "train.lr: has not been changed, so there is no value before"),
        (("label.judge.function=nowhere.py:reward",), "nowhere.py"),
        (("train.lr=1e-6", "--from-round", "1"), "under way"),
        (("train.lr=1e-6", "--from-round", "0"), "--from-round"),
    ],
)
def test_what_cannot_be_set_is_refused_with_the_reason(
    make_run: MakeRun, verb: Verb, arguments: tuple[str, ...], said: str
) -> None:
    run = _held(make_run)

    refused = verb("set", "a-run", *arguments)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert _of_type(run, SettingsChanged) == []
    _go_on(run)


def test_a_round_that_is_past_is_refused_before_anybody_is_asked(
    make_run: MakeRun, verb: Verb
) -> None:
    run = make_run(num_rounds=3)
    run.behave(r2_sample_1="run out of memory")
    run.supervise()

    refused = verb("set", "a-run", "train.lr=1e-6", "--from-round", "1")

    assert refused.returncode == 2
    assert "round 1 is past" in refused.stderr
    assert _of_type(run, RequestRejected) == []


def test_relative_paths_are_those_of_the_client(
    make_run: MakeRun, verb: Verb, tmp_path: Path
) -> None:
    run = _held(make_run)
    (tmp_path / "other.py").write_text("")

    changed = verb("set", "a-run", "label.judge.function=other.py:reward")

    assert changed.returncode == 0, changed.stderr
    (event,) = _of_type(run, SettingsChanged)
    assert event.changes["label.judge.function"][1] == f"{tmp_path}/other.py:reward"
    _go_on(run)


def test_the_round_that_failed_is_changed_and_tried_again(make_run: MakeRun, verb: Verb) -> None:
    run = _failed(make_run)

    changed = verb("set", "a-run", "train.microbatch_tokens=64")

    assert changed.returncode == 0, changed.stderr
    assert "from round 1" in changed.stderr
    assert "halos-tui resume a-run" in changed.stderr
    assert run.state.status == "failed", "only its owner makes it go on"
    wait_for(lambda: lock_holder(run.dir) is None)
    assert verb("retry", "a-run").returncode == 0
    job = json.loads(run.dir.attempt(1, "train", 2).job.read_text())
    assert job["settings"]["train"]["microbatch_tokens"] == 64


# --- abort ----------------------------------------------------------------------------------


def test_an_abort_can_wait_for_the_end_of_the_round(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, num_rounds=2)

    asked = verb("abort", "a-run", "--yes", "--when", "round")

    assert asked.returncode == 0
    assert "aborting at the end of round 1" in asked.stderr
    _go_on(run)
    wait_for(lambda: run.state.status == "aborted")
    assert len(run.attempts) == 3
    (event,) = _of_type(run, AbortRequested)
    assert event.when == "round"


def test_an_abort_that_was_to_come_later_can_come_now(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, num_rounds=2)
    verb("abort", "a-run", "--yes", "--when", "round")

    aborted = verb("abort", "a-run", "--yes")

    assert aborted.returncode == 3, aborted.stderr
    assert run.state.status == "aborted"


# --- lost and stalled -----------------------------------------------------------------------


def _lose(run: FakeRun) -> None:
    """Kill the supervisor that no guardian guards."""
    holder = lock_holder(run.dir)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    wait_for(lambda: lock_holder(run.dir) is None)


def test_a_verb_takes_a_lost_run_up_and_says_so(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, is_plain=True)
    _lose(run)

    paused = verb("pause", "a-run")

    assert paused.returncode == 0, paused.stderr
    assert "the supervisor of a-run was gone" in paused.stderr
    assert "pausing at the end of round 1" in paused.stderr
    assert len(run.attempts) == 1, "the stage was adopted"
    _go_on(run)
    wait_for(lambda: run.state.status == "completed")


def test_a_followed_run_is_revived_by_its_owner(make_run: MakeRun, start: Start) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    follower = start("resume", "a-run")
    run.hold(1, "sample")
    _kill_with_guardian(run)

    wait_for(lambda: run.state.generation == 2)
    _go_on(run)

    stdout, stderr = follower.communicate(timeout=DEADLINE_S)
    assert follower.returncode == 0, stderr
    assert "the supervisor of a-run is gone" in stderr
    assert "a new one takes the run up" in stderr
    assert "supervisor restarted after a crash; the sample stage went on" in stdout
    assert len(run.attempts) == 3


def _kill_with_guardian(run: FakeRun) -> None:
    holder = lock_holder(run.dir)
    assert holder is not None
    stat = Path(f"/proc/{holder.pid}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    os.kill(holder.pid, signal.SIGKILL)
    wait_for(lambda: lock_holder(run.dir) is None)


def test_supervisors_that_die_at_once_are_not_started_for_ever(
    make_run: MakeRun, verb: Verb
) -> None:
    run = _held(make_run, is_plain=True)
    _lose(run)

    followed = verb("resume", "a-run", TEST_SUPERVISOR_DIES="1", TEST_GONE_LIMIT_S="0.1")

    assert followed.returncode == 6
    assert followed.stderr.count("a new one takes the run up") == 6, "its own start, and 5 more"
    assert "revival 5 of 5 without progress" in followed.stderr
    assert followed.stderr.endswith("go on with: halos-tui resume a-run\n")
    _go_on(run)
    run.supervise()


def test_a_watcher_of_a_lost_run_leaves_it_alone(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, is_plain=True)
    _lose(run)

    watched = verb("watch", "a-run")

    assert watched.returncode == 6
    assert "halos-tui resume a-run" in watched.stderr
    assert run.state.generation == 1
    _go_on(run)
    run.supervise()


def _stall(run: FakeRun) -> int:
    """Stop the supervisor, and let it have been so for a while; returns its pid."""
    holder = lock_holder(run.dir)
    assert holder is not None
    os.kill(holder.pid, signal.SIGSTOP)
    stat = Path(f"/proc/{holder.pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    for path in (run.dir.heartbeat, run.dir.lock):
        os.utime(path, (1e9, 1e9))
    return holder.pid


def test_a_stopped_supervisor_is_stalled_and_not_replaced(make_run: MakeRun, verb: Verb) -> None:
    run = _held(make_run, is_plain=True)
    pid = _stall(run)

    status = json.loads(verb("status", "a-run", "--json").stdout)
    assert status["status"] == "stalled"
    assert status["supervisor"]["pid"] == pid
    assert f"kill -CONT {pid}" in verb("status", "a-run").stdout
    assert json.loads(verb("list", "--json").stdout)["status"] == "stalled"
    refused = verb("resume", "a-run")
    assert refused.returncode == 5
    assert "is stalled" in refused.stderr

    asked = verb("pause", "a-run")

    assert asked.returncode == 1
    assert "is stalled: no heartbeat" in asked.stderr
    assert "the request stays" in asked.stderr
    assert lock_holder(run.dir) is not None
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: run.state.status == "pausing")
    _go_on(run)
    wait_for(lambda: run.state.status == "completed")


def test_a_watcher_says_that_the_supervisor_is_stalled_and_that_it_goes_on(
    make_run: MakeRun, start: Start
) -> None:
    run = _held(make_run, is_plain=True)
    pid = _stall(run)
    watcher = start("watch", "a-run")
    assert watcher.stderr is not None

    assert "is stalled" in watcher.stderr.readline()
    os.kill(pid, signal.SIGCONT)
    assert "no longer stalled" in watcher.stderr.readline()
    _go_on(run)

    assert watcher.wait(timeout=DEADLINE_S) == 0


# --- SIGTERM --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_lost", [False, True])
def test_sigterm_stops_the_run_first_where_that_was_asked_for(
    make_run: MakeRun, start: Start, is_lost: bool
) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    follower = start("resume", "a-run", "--pause-on-term")
    run.hold(1, "sample")
    if is_lost:
        _kill_with_guardian(run)

    follower.terminate()

    _, stderr = follower.communicate(timeout=DEADLINE_S)
    assert follower.returncode == 6
    assert run.state.status == "paused"
    assert "halos-tui resume a-run" in stderr


def test_sigterm_leaves_the_run_alone_otherwise(make_run: MakeRun, start: Start) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    follower = start("resume", "a-run")
    run.hold(1, "sample")

    follower.terminate()

    assert follower.wait(timeout=DEADLINE_S) == 6
    _go_on(run)
    wait_for(lambda: run.state.status == "completed")


def test_pause_on_term_of_a_run_that_nobody_follows_is_refused(
    make_run: MakeRun, verb: Verb
) -> None:
    run = make_run()

    refused = verb("resume", "a-run", "--detach", "--pause-on-term")

    assert refused.returncode == 2
    assert run.state.status == "created"


# --- files that may not be written ----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "a-run"),
        ("set", "a-run", "train.lr=1e-6"),
        ("abort", "a-run", "--yes"),
        ("resume", "a-run"),
    ],
)
def test_a_run_that_may_not_be_written_is_left_as_it_is(
    make_run: MakeRun, start: Start, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run = _held(make_run, is_plain=True)
    _lose(run)
    before = run.dir.events.read_bytes()
    run.dir.path.chmod(0o500)
    try:
        process = start(*arguments, TEST_BOUND_BY_PERMISSIONS="1")
        _, stderr = process.communicate(timeout=DEADLINE_S)
    finally:
        run.dir.path.chmod(0o700)
    assert process.returncode == 2
    assert "cannot be written" in stderr
    assert run.dir.events.read_bytes() == before
    _go_on(run)
    run.supervise()

"""The guardian among dying supervisors, orphaned stages and signals; all processes are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend import clock
from halos_backend.client import start
from halos_backend.errors import ExitCode, HalosError
from halos_backend.events import ProcessIdentity, Stage, StageAdopted, StageStarted
from halos_backend.store.identity import (
    boot_id,
    identify,
    is_alive,
    lock_holder,
    process_status,
    send_signal,
)
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor.processes import guardian, subreaper
from halos_backend.supervisor.processes.guardian import Restarts, leave_exit_code
from halos_backend.supervisor.processes.process import StageProcess

from tests.support.fake_run import FakeRun
from tests.support.journals import round_started, settings
from tests.support.waiting import DEADLINE_S, wait_for

MakeRun = Callable[..., FakeRun]
AT_ONCE = {guardian.FIRST_DELAY_S: "0.001"}
VERY_LATE = {guardian.FIRST_DELAY_S: "60"}
MAX_PSS_KB = 10_000


def adoptions(run: FakeRun) -> list[StageAdopted]:
    return [event for event in run.events if isinstance(event, StageAdopted)]


def first_process(run: FakeRun, stage: Stage) -> ProcessIdentity:
    process = run.state.rounds[0].stages[stage].process
    assert process is not None
    return process


def kill_supervisor(run: FakeRun) -> int:
    """kill -9; returns its pid."""
    pid = run.supervisor()
    os.kill(pid, signal.SIGKILL)
    return pid


def read_exit(attempt: AttemptDir) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(attempt.exit.read_text())
    return content


def context_switches(pid: int) -> int:
    """How often the process gave up a processor by itself: each wake-up ends in one."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError("no such line")


# --- a supervisor that dies -----------------------------------------------------------------


def test_a_killed_supervisor_is_started_again_and_adopts_the_stage(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "label")
    stage = first_process(run, "label")

    first = kill_supervisor(run)

    wait_for(lambda: adoptions(run))
    assert run.supervisor() != first
    assert adoptions(run)[0].process == stage
    assert is_alive(stage)
    status = process_status(stage.pid)
    assert status is not None
    assert status.parent == guard.pid
    run.release(attempt)
    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "completed"
    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]
    assert run.log == "guardian: the supervisor was killed by signal 9; starting it again\n"
    assert read_exit(attempt)["exit_code"] == 0, "the guardian reaped it"


def test_kill_of_the_supervisors_process_group_spares_the_guardian(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "sample")

    os.killpg(run.supervisor(), signal.SIGKILL)

    wait_for(lambda: adoptions(run))
    run.release(attempt)
    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "completed"


def test_a_supervisor_that_is_killed_again_and_again_loses_nothing(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    guard = run.start(guarded=True, **AT_ONCE)
    attempt = run.hold(1, "label")
    for count in range(1, 5):
        kill_supervisor(run)
        wait_for(lambda count=count: len(adoptions(run)) == count)
    run.release(attempt)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED

    assert run.state.generation == 5
    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]


def test_what_dies_at_once_each_time_is_given_up_after_eight_starts(make_run: MakeRun) -> None:
    run = make_run()
    count = run.dir.path / "count"
    die = f"echo >> {count}; kill -9 $$"

    guard = run.launch(run.guard(["/bin/sh", "-c", die]), **AT_ONCE)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.FAILED
    assert count.read_text() == "\n" * 8
    lines = run.log.splitlines()
    assert lines == [
        "guardian: the supervisor was killed by signal 9; starting it again",
        *(
            f"guardian: the supervisor was killed by signal 9; starting it again in {delay} s"
            for delay in ("0.001", "0.002", "0.004", "0.008", "0.016", "0.032")
        ),
        "guardian: the supervisor was killed by signal 9, 8 times in a row; giving up",
    ]


def test_a_supervisor_that_cannot_even_be_executed_is_given_up(make_run: MakeRun) -> None:
    run = make_run()

    guard = run.launch(run.guard(["/nowhere/python"]), **AT_ONCE)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.FAILED
    assert "cannot be started: [Errno 2] No such file or directory" in run.log


def test_restarts_back_off_and_are_forgotten_after_a_minute_of_life() -> None:
    restarts = Restarts()
    delays = [restarts.delay_s(0.2) for _ in range(7)]
    assert delays == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]

    assert restarts.delay_s(60.0) == 0.0
    assert restarts.delay_s(59.9) == 1.0
    assert [restarts.delay_s(1.0) for _ in range(6)] == [2.0, 4.0, 8.0, 16.0, 32.0, None]
    slow = Restarts(first_delay_s=50.0)
    assert [slow.delay_s(0.0) for _ in range(3)] == [0.0, 50.0, 60.0]


def test_a_supervisor_that_ends_with_an_unknown_code_after_it_began_is_started_again(
    make_run: MakeRun,
) -> None:
    run = make_run()
    begun = run.dir.path / "begun"
    script = f'test -e {begun} && exit 0; touch {begun}; echo >> "{run.dir.events}"; exit 9'

    guard = run.launch(run.guard(["/bin/sh", "-c", script]), **AT_ONCE)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.log == "guardian: the supervisor ended with exit code 9; starting it again\n"
    run.dir.events.write_bytes(run.dir.events.read_bytes().rstrip(b"\n") + b"\n")


# --- exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 2, 4, 5])
def test_a_code_that_a_restart_would_not_change_is_passed_on(make_run: MakeRun, code: int) -> None:
    run = make_run()

    guard = run.launch(run.guard(["/bin/sh", "-c", f"exit {code}"]))

    assert guard.wait(timeout=DEADLINE_S) == code
    assert run.log == ""


@pytest.mark.parametrize("code", [1, 77])
def test_a_first_supervisor_that_refuses_to_start_is_not_started_again(
    make_run: MakeRun, code: int
) -> None:
    run = make_run()

    guard = run.launch(run.guard(["/bin/sh", "-c", f"exit {code}"]))

    assert guard.wait(timeout=DEADLINE_S) == code
    assert run.log == "", "the client that waits for the start says why"


def test_a_guardian_of_a_run_that_another_holds_leaves_it_alone(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    first = run.start(guarded=True)
    attempt = run.hold(1, "sample")

    second = run.start(guarded=True)

    assert second.wait(timeout=DEADLINE_S) == ExitCode.RUN_IN_USE
    run.release(attempt)
    assert first.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.generation == 1


def test_a_guardian_without_a_command_says_how_it_is_used(make_run: MakeRun) -> None:
    run = make_run()
    guard = run.launch(run.guard([]))

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.USAGE
    assert run.log == "guardian: usage: guardian.py --run-dir DIR -- COMMAND...\n"


def test_clients_start_supervisors_under_a_guardian(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    stand_in = run.dir.path / "guardian.py"
    stand_in.write_text("import os, sys; print(sys.flags.isolated, os.getsid(0) == os.getpid())\n")
    stand_in.write_text(stand_in.read_text() + "print(*sys.argv, sep='\\n')\n")
    monkeypatch.setattr(start, "GUARDIAN", stand_in)

    start.start_supervisor(run.dir)

    path = str(run.dir.path)
    supervisor = [sys.executable, "-m", "halos_backend.supervisor", "--run-dir", path]
    shown = ["1 True", str(stand_in), "--run-dir", path, "--", *supervisor]
    assert run.dir.supervisor_log.read_text().splitlines() == shown


DIES_BEFORE_START = """
import os, pathlib
starts = pathlib.Path("starts")
starts.open("a").write("x")
if len(starts.read_text()) < {which}:
    os.kill(os.getpid(), 9)
"""


def test_a_guardian_that_is_killed_before_its_supervisor_begins_is_started_again(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    stand_in = run.dir.path / "guardian.py"
    stand_in.write_text(DIES_BEFORE_START.format(which=2))
    monkeypatch.setattr(start, "GUARDIAN", stand_in)

    start.start_supervisor(run.dir)

    assert (run.dir.path / "starts").read_text() == "xx"


def test_a_guardian_that_is_killed_every_time_is_given_up_and_named(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    stand_in = run.dir.path / "guardian.py"
    stand_in.write_text(DIES_BEFORE_START.format(which=100))
    monkeypatch.setattr(start, "GUARDIAN", stand_in)

    with pytest.raises(HalosError, match="its guardian ended with exit code -9"):
        start.start_supervisor(run.dir)

    assert (run.dir.path / "starts").read_text() == "xxx"


# --- orphaned stages ------------------------------------------------------------------------


def test_a_stage_that_dies_with_its_supervisor_leaves_its_exit_code(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "label")
    pids = json.loads((attempt.path / "pids").read_text())
    stage = first_process(run, "label")
    supervisor = run.supervisor()
    os.kill(supervisor, signal.SIGSTOP)  # so that it cannot reap the stage first
    os.kill(stage.pid, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED

    (failure,) = run.failures
    assert failure.exit_code == -signal.SIGKILL
    assert failure.reason == "its process was killed by signal 9"
    assert read_exit(attempt)["exit_code"] == -signal.SIGKILL
    assert not any(is_alive(identity) for identity in living(pids)), "strays of both are gone"
    assert run.state.status == "completed"
    assert run.attempts == [
        (1, "sample", 1),
        (1, "label", 1),
        (1, "label", 2),
        (1, "train", 1),
    ]


def living(pids: list[int]) -> list[ProcessIdentity]:
    return [identify(pid) for pid in pids if process_status(pid) is not None]


def test_an_adopted_stage_that_breaks_later_leaves_its_exit_code(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold and fail")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "label")
    kill_supervisor(run)
    wait_for(lambda: adoptions(run))
    supervisor = run.supervisor()
    os.kill(supervisor, signal.SIGSTOP)

    run.release(attempt)
    wait_for(attempt.exit.exists)

    ended = read_exit(attempt)
    assert ended["exit_code"] == 7
    assert abs(ended["t"] - attempt.exit.stat().st_mtime) < 10
    assert attempt.exit.stat().st_mode & 0o777 == 0o600
    os.kill(supervisor, signal.SIGCONT)
    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.failures[0].exit_code == 7
    assert "ended with exit code 7" in run.failures[0].reason
    assert not list(attempt.path.glob(".exit.json*"))


def test_an_adopted_zombie_runs_until_its_exit_code_is_there_or_a_second_has_passed(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    run.behave(r1_label_1="hold and fail")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "label")
    stage = first_process(run, "label")
    kill_supervisor(run)
    wait_for(lambda: adoptions(run))
    supervisor = run.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    guard.send_signal(signal.SIGSTOP)
    run.release(attempt)
    wait_for(lambda: not is_alive(stage))
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])

    watched = StageProcess.adopt(stage, attempt.path)
    assert watched.is_running
    assert not watched.is_gone()
    now[0] += 0.9
    assert watched.is_running
    now[0] += 0.2
    assert not watched.is_running
    assert watched.exit_code is None
    later = StageProcess.adopt(stage, attempt.path)
    assert later.is_running
    guard.send_signal(signal.SIGCONT)
    wait_for(attempt.exit.exists)
    assert not later.is_running
    assert later.exit_code == 7

    os.kill(supervisor, signal.SIGCONT)
    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED


def test_an_adopted_stage_that_is_stopped_leaves_its_exit_code(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "label")
    kill_supervisor(run)
    wait_for(lambda: adoptions(run))

    os.kill(run.supervisor(), signal.SIGTERM)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.processes() == []
    assert run.failures[0].exit_code == -signal.SIGTERM
    assert run.state.status == "paused"
    assert read_exit(attempt)["exit_code"] == -signal.SIGTERM


def test_a_stage_that_finishes_while_no_supervisor_lives_counts(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    guard = run.start(guarded=True, **{guardian.FIRST_DELAY_S: "3"})
    attempt = run.hold(1, "label")
    kill_supervisor(run)
    wait_for(lambda: adoptions(run))
    kill_supervisor(run)  # the second time: the guardian waits
    wait_for(lambda: "in 3 s" in run.log)

    run.release(attempt)
    wait_for(attempt.exit.exists)

    assert read_exit(attempt)["exit_code"] == 0, "it reaps while it waits"
    assert lock_holder(run.dir) is None
    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.failures == []
    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]


def test_exit_json_goes_where_the_run_directory_has_it(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as child:
        run = made_journal(tmp_path, identify(child.pid))
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        leave_exit_code(str(tmp_path), child.pid, 3)
        leave_exit_code(str(tmp_path), child.pid, 4)

    attempt = run.attempt(12, "train", 3)
    assert read_exit(attempt)["exit_code"] == 3, "what is there already stays"
    assert [path.name for path in attempt.path.iterdir()] == ["exit.json"]


@pytest.mark.parametrize("change", ["start_time", "boot_id", "pid"])
def test_a_zombie_that_only_resembles_a_stage_leaves_nothing(tmp_path: Path, change: str) -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        changed: dict[str, Any] = {
            "start_time": identify(child.pid).start_time - 0.01,
            "boot_id": boot_id()[::-1],
            "pid": child.pid + 1,
        }
        forged = msgspec.structs.replace(identify(child.pid), **{change: changed[change]})
        run = made_journal(tmp_path, forged)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        leave_exit_code(str(tmp_path), child.pid, 0)

    assert not run.attempt(12, "train", 3).exit.exists()


def test_a_journal_of_rubbish_does_not_end_the_guardian(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        identity = identify(child.pid)
        run = made_journal(tmp_path, identity)
        escaping = started(identity) | {"stage": "../../..", "attempt": 9}
        with run.events.open("ab") as journal:
            journal.write(
                b"\n".join(
                    [
                        json.dumps(escaping).encode(),
                        b'{"type":"StageStarted"}',
                        b'{"type":"StageStarted","process":7}',
                        b"StageStarted" + b"[" * 100_000,
                        b"[" * 100_000 + b"StageStarted",
                        b"\xff\xfeStageAdopted",
                        b'{"type":"StageStarted","proc',
                    ]
                )
            )
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        leave_exit_code(str(tmp_path), child.pid, 0)

    assert read_exit(run.attempt(12, "train", 3))["exit_code"] == 0


def test_a_long_journal_is_read_from_its_end(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        run = made_journal(tmp_path, identify(child.pid))
        content = run.events.read_bytes()
        run.events.write_bytes(b"x" * 5_000_000 + b"\n" + content)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        leave_exit_code(str(tmp_path), child.pid, 0)
        assert run.attempt(12, "train", 3).exit.exists()

        run.attempt(12, "train", 3).exit.unlink()
        run.events.write_bytes(content + b"x" * 5_000_000)
        leave_exit_code(str(tmp_path), child.pid, 0)

    assert not run.attempt(12, "train", 3).exit.exists()


def started(process: ProcessIdentity) -> dict[str, Any]:
    event = StageStarted(t=1.0, round=12, stage="train", attempt=3, process=process, command=[])
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return plain


def made_journal(path: Path, process: ProcessIdentity) -> RunDir:
    """A run directory whose journal says that the process is round 12's third training attempt."""
    run = RunDir(path)
    run.attempt(12, "train", 3).path.mkdir(parents=True)
    with EventWriter(run.events) as writer:
        writer.append(
            StageStarted(t=1.0, round=12, stage="train", attempt=3, process=process, command=[])
        )
    return run


# --- strays ---------------------------------------------------------------------------------


def test_a_stray_of_a_killed_stage_is_killed_although_it_has_no_tag_and_its_own_session(
    make_run: MakeRun,
) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    supervisor = run.start()
    attempt = run.hold(1, "label")
    stray = json.loads((attempt.path / "pids").read_text())[-1]
    assert (Path("/proc") / str(stray) / "environ").read_bytes() == b""
    status = process_status(stray)
    assert status is not None
    assert status.session == stray

    os.kill(first_process(run, "label").pid, signal.SIGKILL)

    assert supervisor.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.failures[0].exit_code == -signal.SIGKILL
    assert process_status(stray) is None, "and reaped"


def test_a_process_that_is_no_subreaper_takes_nothing_for_a_stray(tmp_path: Path) -> None:
    attempt = tmp_path / "run/rounds/0001/sample/attempt_1"
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        status = process_status(child.pid)
        assert status is not None
        assert subreaper.stray_pids({child.pid: status}, attempt) == set()
        child.kill()


CLAIMS = """
import os, subprocess, sys, time
from pathlib import Path
from halos_backend.store.identity import identify, process_status
from halos_backend.supervisor.processes import subreaper
from halos_backend.supervisor.processes.guardian import become_subreaper

become_subreaper()
ours, other = (Path(f"/r/rounds/0001/label/attempt_{n}") for n in (1, 2))

def start(**options):
    return subprocess.Popen(["sleep", "1000"], env={}, **options)

tag = {subreaper.ATTEMPT_TAG: str(other)}
children = {
    "stray": start(start_new_session=True),
    "helper": start(),
    "first of ours": start(start_new_session=True),
    "first of another": start(start_new_session=True),
    "tagged": subprocess.Popen(["sleep", "1000"], env=tag, start_new_session=True),
}
while subreaper.attempt_tag(children["tagged"].pid) is None:
    time.sleep(0.001)  # the kernel shows a program's environment a moment after it was started
subreaper.watch_first(identify(children["first of ours"].pid), ours)
subreaper.watch_first(identify(children["first of another"].pid), other)
running = {child.pid: process_status(child.pid) for child in children.values()}
running[os.getpid()] = process_status(os.getpid())
found = subreaper.stray_pids(running, ours)
for child in children.values():
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
subreaper.reap_strays()
for name, child in children.items():
    print(name, child.pid in found, process_status(child.pid) is None, sep=",")
"""


def test_only_what_nobody_else_claims_is_a_stray_and_is_reaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLAIMS], capture_output=True, text=True, start_new_session=True
    )

    assert done.stdout.splitlines() == [
        "stray,True,True",
        "helper,False,False",
        "first of ours,True,False",
        "first of another,False,False",
        "tagged,False,True",
    ], done.stderr


# --- the guardian dies, or is told to stop --------------------------------------------------


def test_a_supervisor_goes_on_without_its_guardian(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "label")
    supervisor = run.supervisor()

    guard.kill()
    guard.wait()
    run.release(attempt)

    wait_for(lambda: run.state.status == "completed")
    wait_for(lambda: process_status(supervisor) is None or not run.processes())
    assert run.state.generation == 1


def test_a_client_revives_a_run_whose_guardian_and_supervisor_died(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold")
    first = run.start(guarded=True)
    attempt = run.hold(1, "label")
    supervisor = run.supervisor()
    first.kill()
    first.wait()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: lock_holder(run.dir) is None)

    second = run.start(guarded=True)
    wait_for(lambda: adoptions(run))
    run.release(attempt)

    assert second.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.attempts == [(1, "sample", 1), (1, "label", 1), (1, "train", 1)]


def test_sigterm_to_the_guardian_pauses_the_run_in_good_order(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    guard = run.start(guarded=True)
    run.hold(1, "label")

    guard.terminate()

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.processes() == []
    assert run.state.status == "paused"
    assert run.state.generation == 1
    assert run.log == ""


def test_sigterm_reaches_a_supervisor_that_is_not_ready_for_it_yet(make_run: MakeRun) -> None:
    run = make_run()
    guard = run.start(guarded=True)
    wait_for(lambda: children_of(guard.pid))

    guard.terminate()

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "paused"
    assert run.processes() == []


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def test_sigterm_while_the_guardian_waits_stops_the_orphaned_stage_too(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_label_1="hold with all sorts of helpers")
    guard = run.start(guarded=True, **VERY_LATE)
    run.hold(1, "label")
    kill_supervisor(run)
    wait_for(lambda: adoptions(run))
    kill_supervisor(run)
    wait_for(lambda: "in 60 s" in run.log)

    guard.terminate()

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.processes() == []
    assert run.state.status == "paused"


def test_a_supervisor_that_dies_over_sigterm_is_not_started_again(make_run: MakeRun) -> None:
    run = make_run()
    ready = run.dir.path / "ready"
    script = f"import os, signal, time; open({str(ready)!r}, 'w'); time.sleep(1000)"
    unblock = "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]); "
    guard = run.launch(run.guard([sys.executable, "-S", "-c", unblock + script]))
    wait_for(ready.exists)

    guard.terminate()

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.FAILED
    assert run.log == (
        "guardian: the supervisor was killed by signal 15 when it was told to stop\n"
    )


def test_a_closed_terminal_and_ctrl_c_do_not_reach_the_guardian(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "sample")

    guard.send_signal(signal.SIGHUP)
    guard.send_signal(signal.SIGINT)
    run.release(attempt)

    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
    assert run.state.status == "completed"


# --- trust and cost -------------------------------------------------------------------------


def test_a_pid_in_the_journal_that_is_another_process_now_is_never_signalled(
    make_run: MakeRun,
) -> None:
    run = make_run()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        identity = identify(bystander.pid)
        forged = msgspec.structs.replace(identity, start_time=identity.start_time - 0.01)
        attempt = run.dir.attempt(1, "sample", 1)
        attempt.path.mkdir(parents=True)
        with EventWriter(run.dir.events) as writer:
            for event in round_begun(run, forged):
                writer.append(event, durable=True)

        guard = run.start(guarded=True)

        assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED
        assert bystander.poll() is None
        assert not send_signal(forged.pid, forged.start_time, signal.SIGKILL)
        bystander.kill()
    assert run.attempts[:2] == [(1, "sample", 1), (1, "sample", 2)]


def round_begun(run: FakeRun, process: ProcessIdentity) -> list[Any]:
    made = settings(num_rounds=1, prompts_per_round=2)
    return [
        round_started(1, made),
        StageStarted(t=2.0, round=1, stage="sample", attempt=1, process=process, command=[]),
    ]


def test_an_idle_guardian_sleeps_and_is_small(make_run: MakeRun) -> None:
    run = make_run()
    run.behave(r1_sample_1="hold")
    guard = run.start(guarded=True)
    attempt = run.hold(1, "sample")
    before = context_switches(guard.pid)

    time.sleep(1.0)  # what is measured is that nothing happens meanwhile

    assert context_switches(guard.pid) == before
    rollup = Path(f"/proc/{guard.pid}/smaps_rollup").read_text().splitlines()
    (pss,) = [int(line.split()[1]) for line in rollup if line.startswith("Pss:")]
    assert pss < MAX_PSS_KB
    run.release(attempt)
    assert guard.wait(timeout=DEADLINE_S) == ExitCode.COMPLETED


def test_the_guardian_imports_nothing_but_a_little_of_the_standard_library() -> None:
    show = f"import runpy, sys; runpy.run_path({str(start.GUARDIAN)!r}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", show], capture_output=True, text=True, check=True
    )
    imported = {name.split(".")[0] for name in done.stdout.split()}
    assert imported <= {*sys.stdlib_module_names, "__main__"}
    assert not imported & {"pathlib", "subprocess", "argparse", "logging", "threading"}


def test_a_stage_is_the_kernels_first_choice_when_memory_runs_out(tmp_path: Path) -> None:
    attempt = AttemptDir(tmp_path)
    stage = StageProcess.start(
        ["sleep", "1000"], attempt_dir=tmp_path, log=attempt.log, environment=dict(os.environ)
    )

    assert Path(f"/proc/{stage.identity.pid}/oom_score_adj").read_text() == "500\n"

    stage.end(grace_s=0.0)
    wait_for(stage.is_gone)

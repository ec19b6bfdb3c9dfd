"""A stage's program that stays: real processes, a task after another, and when it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from halos_backend.interpreters.programs import KEEPING_MEMORY
from halos_backend.stages import serving
from halos_backend.store.handover import read_exit_code, read_task, write_task
from halos_backend.store.run_dir import AttemptDir, RunDir

from tests.support.waiting import wait_for

PROGRAM = """
import os, sys
from pathlib import Path
from halos_backend.errors import ExitCode
from halos_backend.stages import serving

serving.TIMEOUT_S = float(sys.argv[2])
serving.LOOK_S = 0.05

def execute(attempt):
    print("at", attempt.path.name)
    print(os.getcwd(), file=sys.stderr)
    return ExitCode.FAILED if (attempt.path / "fail").exists() else ExitCode.COMPLETED

def park():
    print("parked")
    if Path("cannot_park").exists():
        raise RuntimeError("the GPU is gone")

def close():
    print("closed")

def preload():
    print("preloaded", flush=True)
    if Path("cannot_preload").exists():
        raise ImportError("no torch")

serving.serve(Path(sys.argv[1]), execute, park, close, preload=preload)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.worker("train").path.mkdir(parents=True)
    run.heartbeat.write_text("1\n")
    return run


@contextmanager
def worker(run: RunDir, *, orphan_timeout_s: float = 60.0) -> Iterator[subprocess.Popen[bytes]]:
    path = run.worker("train").path
    command = [sys.executable, "-c", PROGRAM, str(path), str(orphan_timeout_s)]
    with (path / "stdout.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=path, stdout=log, stderr=log)
    with process:
        yield process
        process.kill()


def hand_over(run: RunDir, number: int, *, fails: bool = False) -> AttemptDir:
    attempt = run.attempt(number, "train", 1)
    attempt.path.mkdir(parents=True)
    if fails:
        (attempt.path / "fail").touch()
    write_task(run.worker("train").task, attempt.path)
    return attempt


def test_one_process_executes_attempt_after_attempt_each_with_its_own_log(run: RunDir) -> None:
    with worker(run) as process:
        for number in (1, 2):
            attempt = hand_over(run, number)
            wait_for(lambda attempt=attempt: read_exit_code(attempt) == 0)
            said = attempt.log.read_text()
            assert sorted(said.split()) == sorted(
                ["at", "attempt_1", str(attempt.path), "parked"]
            ), "its working directory is the attempt's"
            assert read_task(run.worker("train").task) is None
        assert process.poll() is None


def test_libraries_are_loaded_before_there_is_work_and_a_failure_is_left_to_the_attempt(
    run: RunDir,
) -> None:
    (run.worker("train").path / "cannot_preload").touch()
    with worker(run):
        wait_for(lambda: "no torch" in run.worker("train").log.read_text())
        attempt = hand_over(run, 1)
        wait_for(lambda: read_exit_code(attempt) == 0)
        assert "preloaded" not in attempt.log.read_text()


def test_it_leaves_with_the_code_of_an_attempt_that_failed(run: RunDir) -> None:
    with worker(run) as process:
        attempt = hand_over(run, 1, fails=True)
        assert process.wait(timeout=60) == 1
    assert read_exit_code(attempt) == 1
    assert "parked" not in attempt.log.read_text(), "what has failed may hang there"
    worker_dir = run.worker("train")
    assert worker_dir.log.read_text() == "preloaded\nclosed\n"
    assert worker_dir.farewell.read_text() == "0001/train/attempt_1 failed"


def test_it_leaves_when_it_cannot_give_its_memory_back_but_what_was_done_counts(
    run: RunDir,
) -> None:
    with worker(run) as process:
        attempt = run.attempt(1, "train", 1)
        attempt.path.mkdir(parents=True)
        (attempt.path / "cannot_park").touch()
        write_task(run.worker("train").task, attempt.path)
        assert process.wait(timeout=60) == 0
    assert read_exit_code(attempt) == 0
    assert run.worker("train").farewell.read_text().endswith("the GPU is gone")


def test_it_leaves_when_its_attempt_cannot_be_begun(run: RunDir) -> None:
    """As on a full disk."""
    attempt = run.attempt(1, "train", 1)
    attempt.log.mkdir(parents=True)
    write_task(run.worker("train").task, attempt.path)
    with worker(run) as process:
        assert process.wait(timeout=60) == 1
    assert read_exit_code(attempt) == 1


def test_a_task_that_comes_while_it_is_about_to_leave_is_seen(tmp_path: Path) -> None:
    home = RunDir(tmp_path).worker("train")
    write_task(home.task, tmp_path)
    assert not serving._says_farewell(home, "it has grown")
    assert not home.farewell.exists()
    home.task.unlink()
    assert serving._says_farewell(home, "it has grown")
    assert home.farewell.read_text() == "it has grown"


def test_it_leaves_when_no_supervisor_has_been_there_for_a_while(run: RunDir) -> None:
    with worker(run, orphan_timeout_s=1.0) as process:
        for beat in range(2, 12):  # twice as long as the limit
            run.heartbeat.write_text(f"{beat}\n")
            time.sleep(0.2)
            assert process.poll() is None
        assert process.wait(timeout=60) == 0


def test_a_worker_that_was_stopped_itself_does_not_take_its_supervisor_for_gone(
    run: RunDir,
) -> None:
    with worker(run, orphan_timeout_s=2.0) as process:
        attempt = hand_over(run, 1)
        wait_for(lambda: read_exit_code(attempt) == 0)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.5)
        assert process.poll() is None


def test_growth_counts_from_the_second_attempt_on_and_only_if_it_is_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gib = 1 << 30
    for readings, said in (
        ((1, 4, 4.2), ""),  # the first attempt loads what is kept
        ((1, 4, 6.1), "its memory has grown from 4.0 to 6.1 GiB"),  # more than half as much again
        ((0.1, 0.2, 0.9), ""),  # less than a GiB
    ):
        resident = iter(readings)
        monkeypatch.setattr(
            serving, "resident_bytes", lambda values=resident: int(next(values) * gib)
        )
        memory = serving.Memory()
        assert [memory.growth() for _ in readings] == ["", "", said]


CHILD = """
import subprocess, sys
from halos_backend.stages.serving import resident_bytes

before = resident_bytes()
code = "block = b'x' * (1 << 27); print(flush=True); input()"
with subprocess.Popen(
    [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
) as child:
    child.stdout.readline()
    print(resident_bytes() - before)
    child.stdin.write(b"\\n")
"""


def test_memory_of_an_engines_own_process_counts() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1 << 27


PEAK = """
from halos_backend.stages.serving import peak_bytes, resident_bytes

block = b"x" * (1 << 28)
del block
print(peak_bytes(), resident_bytes())
"""


def test_a_peak_is_known_after_it_has_passed() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    peak, now = map(int, done.stdout.split())
    assert peak > 1 << 28 > now


HEAP = """
import psutil
from halos_backend.stages.serving import give_back_memory, resident_bytes

before = resident_bytes()
blocks = [b"x" * (1 << 25) for _ in range(8)]
end = bytes(100)  # above them on the heap
for i in range(8):
    blocks[i] = None
kept = resident_bytes()
give_back_memory()
print(before, kept, resident_bytes())
"""


def test_freed_memory_stays_for_the_next_tensor_until_it_is_given_back() -> None:
    environment = {**os.environ, **KEEPING_MEMORY}
    done = subprocess.run(
        [sys.executable, "-c", HEAP], env=environment, capture_output=True, text=True, check=True
    )
    before, kept, after = map(int, done.stdout.split())
    assert kept - before > 7 << 25
    assert after - before < 1 << 25

"""Programs that stay between rounds, as the supervisor keeps them: real processes, fake stages."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.events import Stage
from halos_backend.store.handover import read_exit_code
from halos_backend.store.identity import is_alive
from halos_backend.store.job import Job, LabelInputs
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import fold
from halos_backend.supervisor.processes import workers
from halos_backend.supervisor.processes.process import attempt_processes
from halos_backend.supervisor.processes.workers import WorkerAttempt, Workers

from tests.support.journals import created, settings
from tests.support.waiting import wait_for

PROGRAM = """
import sys
from pathlib import Path
from halos_backend.errors import ExitCode
from halos_backend.stages import serving

def execute(attempt):
    return ExitCode.COMPLETED

serving.serve(Path(sys.argv[1]), execute, lambda: None, lambda: None)
"""


class Kept:
    """Workers of a run, and what was said of them."""

    def __init__(self, path: Path) -> None:
        self.dir = RunDir(path)
        self.said: list[tuple[Stage, str]] = []
        self.workers = Workers(self.dir, lambda stage, why: self.said.append((stage, why)))
        self._round = 0

    def execute(self, made: RunSettings, stage: Stage = "label") -> WorkerAttempt:
        """The next round's attempt, done."""
        self._round += 1
        attempt = self.dir.attempt(self._round, stage, 1)
        attempt.path.mkdir(parents=True)
        inputs = LabelInputs("completions.jsonl")
        job = Job("a-run", self._round, stage, 1, 0, 1, 1, {}, inputs)
        _, begun = self.workers.begin(attempt, job, made)
        wait_for(lambda: read_exit_code(attempt) == 0)
        return begun


def pid_of(workers: Workers) -> int:
    """The label worker's, which can be told by its environment only a moment after its start."""
    (pid,) = wait_for(lambda: workers.pids()["label"])
    return pid


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    command: Callable[[Stage, Path, int], list[str]] = lambda _stage, home, threads: [  # noqa: E731
        *(sys.executable, "-c", PROGRAM, str(home), str(threads))
    ]
    monkeypatch.setattr(workers, "worker_command", command)
    made = Kept(tmp_path / "run")
    made.dir.path.mkdir()
    made.dir.heartbeat.write_text("1\n")
    yield made
    made.workers.end_all()


def judged_by(path: Path) -> RunSettings:
    made = settings()
    judge = made.label.judge.model_copy(update={"function": f"{path}:reward"})
    return made.model_copy(update={"label": made.label.model_copy(update={"judge": judge})})


def test_a_worker_takes_attempt_after_attempt(kept: Kept) -> None:
    first, second = (kept.execute(settings()) for _ in range(2))
    assert first.identity == second.identity
    assert second.exit_code == 0
    second.end(grace_s=0.0)
    assert second.is_gone()
    assert is_alive(second.identity), "its attempt has ended, and it waits for more"
    assert kept.said == []


def test_one_that_was_killed_while_it_waited_is_replaced(kept: Kept) -> None:
    first = kept.execute(settings())
    worker = pid_of(kept.workers)
    assert worker == first.identity.pid
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not is_alive(first.identity))
    assert kept.execute(settings()).identity != first.identity
    assert kept.said == [("label", "it ended by itself")]


def test_one_that_is_about_to_leave_is_not_given_more(kept: Kept) -> None:
    first = kept.execute(settings())
    kept.dir.worker("label").farewell.write_text("its memory has grown")
    assert kept.execute(settings()).identity != first.identity
    assert kept.said == [("label", "its memory has grown")]
    assert not is_alive(first.identity)
    assert not kept.dir.worker("label").farewell.exists()


def test_threads_that_it_has_begun_with_are_not_kept_and_a_function_is_no_concern_of_its(
    kept: Kept, tmp_path: Path
) -> None:
    (tmp_path / "judge.py").write_text("BEST = 1\n")
    made = judged_by(tmp_path / "judge.py")
    found = [kept.execute(made)]
    (tmp_path / "judge.py").write_text("BEST = 2\n")
    threads = made.launch.model_copy(update={"num_threads": 2})
    found += [kept.execute(made), kept.execute(made.model_copy(update={"launch": threads}))]
    assert found[0].identity == found[1].identity != found[2].identity
    assert kept.said == [("label", "other settings hold for it")]


def test_all_end_but_those_at_work(kept: Kept) -> None:
    label, train = kept.execute(settings()), kept.execute(settings(), "train")
    kept.workers.end_all(but=["train"], reason="there is no room")
    assert not is_alive(label.identity)
    assert is_alive(train.identity)
    assert kept.said == [("label", "there is no room")]


def test_one_that_was_started_before_there_was_work_takes_the_first_attempt(kept: Kept) -> None:
    kept.workers.preload("label", settings())
    early = pid_of(kept.workers)
    kept.workers.preload("label", settings())
    assert kept.execute(settings()).identity.pid == early
    assert kept.said == []


def test_a_supervisor_takes_over_one_that_has_had_no_work_yet(kept: Kept) -> None:
    earlier = kept.workers
    earlier.preload("label", settings())
    early = pid_of(earlier)
    kept.workers = Workers(kept.dir, lambda stage, why: kept.said.append((stage, why)))
    kept.workers.recover(fold([created(settings())]))
    assert kept.execute(settings()).identity.pid == early
    earlier.end_all()


def test_one_that_was_started_early_and_died_is_replaced(kept: Kept) -> None:
    kept.workers.preload("label", settings())
    early = pid_of(kept.workers)
    os.kill(early, signal.SIGKILL)
    wait_for(lambda: psutil.Process(early).status() == psutil.STATUS_ZOMBIE)
    assert kept.execute(settings()).identity.pid != early
    assert kept.said == [("label", "it ended by itself")]


def test_settings_that_change_after_an_early_start_are_not_worked_with(kept: Kept) -> None:
    made = settings()
    kept.workers.preload("label", made)
    early = pid_of(kept.workers)
    threads = made.launch.model_copy(update={"num_threads": 2})
    assert kept.execute(made.model_copy(update={"launch": threads})).identity.pid != early
    assert kept.said == [("label", "other settings hold for it")]


def test_a_full_disk_means_no_early_start_and_nothing_left_behind(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes, *, durable: bool = True) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(workers.atomic, "write_bytes", full)
    kept.workers.preload("label", settings())
    assert kept.workers.pids() == {}
    assert not attempt_processes(kept.dir.worker("label").path)

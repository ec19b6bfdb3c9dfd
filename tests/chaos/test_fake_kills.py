"""Many schedules of kills on supervisors whose stages are fakes that take milliseconds."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from halos_backend.store.identity import lock_holder, process_status, send_signal
from halos_backend.store.reader import run_journal
from halos_backend.store.state import ENDED, fold
from halos_backend.supervisor.processes.guardian import __file__ as GUARDIAN

from tests.support.fake_run import FakeRun
from tests.support.invariants import check_journal, check_lock_is_free, check_stages
from tests.support.schedule import BARE_PER_CASE, CASES, SEED
from tests.support.waiting import wait_for

ROUNDS = (1, 2, 3)
NUM_KILLS = 4
DEADLINE_S = 60.0
LONGEST_GAP_S = 0.35
"""Between two kills. An undisturbed run of three rounds takes about a second."""
ENVIRONMENT = {"HALOS_GUARDIAN_DELAY_S": "0.05", "TEST_RETRY_DELAY_S": "0.05"}
TARGETS = (
    ("stage",),
    ("supervisor",),
    ("guardian",),
    ("guardian", "supervisor"),
    ("supervisor", "stage"),
    ("guardian", "supervisor", "stage"),
)
GARBAGE = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"type":"abort"}',
    b'{"type":"abort","request_id":"../../../outside"}',
    b'{"type":"set","request_id":"x","assignments":["../../run.lr=1"]}',
    b'{"type":"set","request_id":"y","assignments":["policy.path=/etc/passwd"]}',
    b'{"type":"dance","request_id":"z"}',
    b"x" * 200_000,
)
ODD_NAMES = ("a", "..", " ", "\n", "\x1b[2J")


class Schedule:
    """One run under fire. Every choice follows from the seed and the number."""

    def __init__(self, path: Path, number: int) -> None:
        self.draw = random.Random(f"{SEED}/fake/{number}")
        self.run = FakeRun(path / "run", num_rounds=len(ROUNDS), max_attempts=1000)
        self.prefixes: list[bytes] = []
        self.has_guardian = self.draw.random() < 0.75
        self.guards: list[subprocess.Popen[bytes]] = []
        self.num_garbage = 0

    def start(self) -> None:
        """Somebody in charge of the run: a guarded supervisor, or a bare one."""
        guard = [sys.executable, "-I", "-S", GUARDIAN, "--run-dir", str(self.run.dir.path), "--"]
        self.guards.append(self.run.start(prefix=guard if self.has_guardian else [], **ENVIRONMENT))

    def fire(self) -> None:
        """One kill after a while, and now and then a file that is no request."""
        time.sleep(self.draw.random() * LONGEST_GAP_S)
        if self.draw.random() < 0.4:
            self.num_garbage += 1
            name = f"{self.num_garbage}-{self.draw.choice(ODD_NAMES)}.json"
            (self.run.dir.control / name).write_bytes(self.draw.choice(GARBAGE))
        self.prefixes.append(self._whole_lines())
        for target in self.draw.choice(TARGETS):
            self._kill(target)
        if not self._is_guarded() and lock_holder(self.run.dir) is None:
            self.start()

    def finish(self) -> None:
        """Start somebody whenever nobody is in charge, until the run has ended."""
        end = time.monotonic() + DEADLINE_S
        while not self._has_ended():
            assert time.monotonic() < end, f"not ended\n{self.run.log[-3000:]}"
            if not self._is_guarded() and lock_holder(self.run.dir) is None:
                self.start()
            time.sleep(0.02)
        wait_for(lambda: self.run.processes() == [])

    def check(self) -> None:
        journal = self.run.dir.events
        state = check_journal(journal, self.prefixes)
        assert state.status == "completed"
        events = [json.loads(line) for line in journal.read_bytes().splitlines()]
        check_stages(self.run.dir.path, events, rounds=ROUNDS)
        cursors = [(round.cursor, round.num_prompts) for round in state.rounds]
        assert cursors == [(0, 2), (2, 2), (4, 2)]
        num_waiting = len(list(self.run.dir.control.glob("*.json")))  # came after the end
        num_rejected = sum(event["type"] == "RequestRejected" for event in events)
        assert num_rejected >= self.num_garbage - num_waiting
        check_lock_is_free(self.run.dir.path)
        self.run.check()

    def _kill(self, target: str) -> None:
        match target:
            case "guardian":
                if self.has_guardian and self.guards[-1].poll() is None:
                    self.guards[-1].kill()
                    self.guards[-1].wait()
            case "supervisor":
                if (holder := lock_holder(self.run.dir)) is not None:
                    _kill_and_wait(holder.pid, holder.start_time)
            case _:
                state = fold(run_journal(self.run.dir.events).read())
                for round, stage in state.active:
                    process = state.rounds[round - 1].stages[stage].process
                    if process is not None:
                        _kill_and_wait(process.pid, process.start_time)

    def _is_guarded(self) -> bool:
        """Whether the newest guardian lives, or the supervisor that was started without one."""
        return bool(self.guards) and self.guards[-1].poll() is None

    def _has_ended(self) -> bool:
        return fold(run_journal(self.run.dir.events).read()).status in ENDED

    def _whole_lines(self) -> bytes:
        content = self.run.dir.events.read_bytes()
        return content[: content.rfind(b"\n") + 1]


def _kill_and_wait(pid: int, start_time: float) -> None:
    if send_signal(pid, start_time, signal.SIGKILL):
        wait_for(lambda: not _is_alive(pid, start_time))


def _is_alive(pid: int, start_time: float) -> bool:
    status = process_status(pid)
    return status is not None and status.is_alive and status.start_time == start_time


@pytest.fixture
def schedule(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Schedule]:
    made = Schedule(tmp_path, request.param)
    (made.run.dir.control).mkdir(exist_ok=True)
    yield made
    for pid in made.run.processes():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("schedule", range(CASES * BARE_PER_CASE), indirect=True)
def test_kills_at_random(
    schedule: Schedule, record_property: Callable[[str, object], None]
) -> None:
    schedule.start()
    for _ in range(NUM_KILLS):
        schedule.fire()
    schedule.finish()
    schedule.check()
    record_property("bare_runs", 1)
    record_property("kills_of_bare_runs", NUM_KILLS)

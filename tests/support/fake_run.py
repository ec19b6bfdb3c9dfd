"""A run directory with fake stages, and real supervisors on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halos_backend.client.start import GUARDIAN
from halos_backend.events import RunEvent, Stage, StageFailed, StageStarted
from halos_backend.store import requests
from halos_backend.store.identity import lock_holder, process_status
from halos_backend.store.reader import run_journal
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState, fold
from halos_backend.store.writer import EventWriter
from msgspec.structs import replace

from tests.support.journals import created, settings
from tests.support.waiting import DEADLINE_S, wait_for

DRIVER = Path(__file__).with_name("drive_supervisor.py")
SUPERVISOR = (sys.executable, str(DRIVER))
MARK = "HALOS_TEST_RUN"


class FakeRun:
    """A run of `num_rounds` rounds of two prompts, whose result is scored only on demand.

    `supervisor` is the program of those that it starts itself.
    """

    def __init__(
        self,
        path: Path,
        *,
        num_rounds: int = 1,
        num_held_out: int = 0,
        supervisor: Sequence[str] = SUPERVISOR,
        **loop: Any,
    ) -> None:
        path.mkdir()
        self.dir = RunDir(path)
        loop = {"score_final": False, **loop}
        made = settings(num_rounds=num_rounds, prompts_per_round=2, **loop)
        self.dir.resolved_config.write_text(made.model_dump_json())
        with EventWriter(self.dir.events) as writer:
            first = replace(created(made), num_held_out=num_held_out)
            writer.append(first, durable=True)
        self._supervisor = supervisor
        self._supervisors: list[subprocess.Popen[bytes]] = []

    def behave(self, **behaviours: str) -> None:
        """`r1_sample_1="fail"`: how attempt 1 of sample in round 1 goes."""
        plan = {key[1:].replace("_", "/"): value for key, value in behaviours.items()}
        (self.dir.path / "fake.json").write_text(json.dumps(plan))

    def summarize(self, **changes: dict[str, Any]) -> None:
        """`r1_label={"num_feedback": 0}`: changes of a stage's summary."""
        made = {key[1:].replace("_", "/"): value for key, value in changes.items()}
        (self.dir.path / "summaries.json").write_text(json.dumps(made))

    def start(
        self, *, prefix: Sequence[str] = (), guarded: bool = False, **environment: str
    ) -> subprocess.Popen[bytes]:
        """A supervisor as `spawn` starts it: its own session, output to its log.

        `guarded`: under a guardian, which is then what is returned.
        """
        command = [*prefix, *self._supervisor, "--run-dir", str(self.dir.path)]
        return self.launch(self.guard(command) if guarded else command, **environment)

    def guard(self, command: Sequence[str]) -> list[str]:
        """A guardian of that supervisor command."""
        guard = [sys.executable, "-I", "-S", str(GUARDIAN), "--run-dir", str(self.dir.path)]
        return [*guard, "--", *command]

    def launch(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Any program in place of the supervisor; `check` sees that it has ended."""
        with (self.dir.path.parent / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, MARK: str(self.dir.path), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._supervisors.append(process)
        return process

    def supervise(self, *, prefix: Sequence[str] = (), **environment: str) -> int:
        """Run a supervisor to its end; returns its exit code."""
        return self.start(prefix=prefix, **environment).wait(timeout=DEADLINE_S)

    def ask(self, request: requests.Request) -> None:
        """Drop a request for the next supervisor, or the one that lives."""
        requests.send(self.dir, request)

    def resume(self, **environment: str) -> int:
        """Go on with a failed or paused run, as `halos-tui resume` does; to its end."""
        self.ask(requests.Resume(request_id=requests.new_request_id()))
        return self.supervise(**environment)

    def hold(self, round: int, stage: Stage, attempt: int = 1) -> AttemptDir:
        """Wait until a stage that holds is recorded and does so."""
        directory = self.dir.attempt(round, stage, attempt)
        wait_for(lambda: (directory.path / "holding").exists())
        wait_for(lambda: (round, stage) in self.state.active)
        return directory

    def release(self, attempt: AttemptDir) -> None:
        (attempt.path / "release").touch()

    def supervisor(self, *, other_than: int | None = None) -> int:
        """Wait for a supervisor that holds the run; returns its pid."""
        wait_for(lambda: (holder := lock_holder(self.dir)) is not None and holder.pid != other_than)
        holder = lock_holder(self.dir)
        assert holder is not None
        return holder.pid

    def kill(self, supervisor: subprocess.Popen[bytes]) -> None:
        """kill -9, as the out-of-memory killer does."""
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
        assert lock_holder(self.dir) is None

    @property
    def log(self) -> str:
        return (self.dir.path.parent / "supervisor.log").read_text()

    @property
    def events(self) -> list[RunEvent]:
        return run_journal(self.dir.events).read()

    @property
    def state(self) -> RunState:
        """As readers see it, which is the fold of the whole journal."""
        state = load_state(self.dir)
        assert state.updated_t >= 0
        return state

    @property
    def attempts(self) -> list[tuple[int, Stage, int]]:
        """(round, stage, attempt) of every stage that was started, in order."""
        return [
            (event.round, event.stage, event.attempt)
            for event in self.events
            if isinstance(event, StageStarted)
        ]

    @property
    def failures(self) -> list[StageFailed]:
        return [event for event in self.events if isinstance(event, StageFailed)]

    def check(self) -> None:
        """What holds after every test: nothing runs, and snapshot and journal agree."""
        for supervisor in self._supervisors:
            if supervisor.poll() is None:
                supervisor.kill()
                supervisor.wait()
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert left == [], "processes were left over"
        assert load_state(self.dir) == fold(run_journal(self.dir.events).read())

    def processes(self) -> list[int]:
        """Living processes that carry the run's mark, or whose pids a stage wrote down."""
        mark = f"{MARK}={self.dir.path}".encode()
        found = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and mark in _environment(entry)
        ]
        for pids in self.dir.path.glob("rounds/*/*/*/pids"):
            found += json.loads(pids.read_text())
        return [pid for pid in set(found) if (status := process_status(pid)) and status.is_alive]


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []

"""The stage programs that stay between rounds, one for each stage: starts, hands over, ends them.

A worker's tree carries the tag of its own directory, so that it can be found whatever attempt it is
at. Its record on disk lets the next supervisor take it over.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from halos_backend import atomic
from halos_backend.config.schema import LaunchSettings
from halos_backend.events import STAGES, ProcessIdentity, Stage
from halos_backend.interpreters.foreign import in_interpreter
from halos_backend.records import BAD_JSON
from halos_backend.store.handover import read_task, told_exit_code, write_task
from halos_backend.store.identity import is_alive
from halos_backend.store.run_dir import AttemptDir, RunDir, WorkerDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.launch import stage_environment, worker_command
from halos_backend.supervisor.process import (
    StageProcess,
    attempt_processes,
    end_now,
    kill_attempt,
)


class Record(msgspec.Struct, frozen=True):
    """`digest` is of the command line and environment that it was started with."""

    process: ProcessIdentity
    digest: str


@dataclass(frozen=True)
class _Worker:
    process: StageProcess
    digest: str


class WorkerAttempt:
    """An attempt that a worker executes, with the interface of a StageProcess.

    The attempt ends when the worker says so in `exit.json`, or with the worker. To stop it is to
    end the worker.
    """

    def __init__(self, worker: StageProcess, attempt: AttemptDir) -> None:
        self._identity = worker.identity
        self.home = worker.home
        self._worker = worker
        self._attempt = attempt
        self._has_ended_well = False

    @property
    def identity(self) -> ProcessIdentity:
        return self._identity

    @property
    def is_running(self) -> bool:
        return not self._attempt.exit.exists() and self._worker.is_running

    @property
    def is_ending(self) -> bool:
        return self._has_ended_well or self._worker.is_ending

    @property
    def exit_code(self) -> int | None:
        told = told_exit_code(self._attempt)
        return self._worker.exit_code if told is None else told

    def end(self, *, grace_s: float) -> None:
        """End the worker, unless it has done its work and waits for more."""
        if told_exit_code(self._attempt) == 0 and self._worker.is_running:
            self._has_ended_well = True
        else:
            self._worker.end(grace_s=grace_s)

    def is_gone(self) -> bool:
        return self._has_ended_well or self._worker.is_gone()


class Workers:
    """All workers of one run."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._workers: dict[Stage, _Worker] = {}

    def begin(
        self,
        stage: Stage,
        attempt: AttemptDir,
        launch: LaunchSettings,
        *,
        python: str | None = None,
    ) -> tuple[list[str], WorkerAttempt]:
        """Hand the attempt to the stage's worker; a new one where there is none that fits.

        `python` is its interpreter where that is not ours. Returns its command line, too.
        """
        home = self._run_dir.worker(stage)
        command = in_interpreter(worker_command(stage, home.path), python)
        environment = stage_environment(home.path, launch, os.environ, python=python)
        digest = _digest(command, environment)
        worker = self._workers.get(stage)
        if worker is None or worker.digest != digest or not worker.process.is_running:
            self.end(stage)
            worker = self._start(stage, home, command, environment, digest)
        write_task(home.task, attempt.path)
        return command, WorkerAttempt(worker.process, attempt)

    def adopt(
        self, stage: Stage, process: ProcessIdentity, attempt: AttemptDir
    ) -> WorkerAttempt | None:
        """The attempt that an earlier supervisor gave to this process, if that is a worker."""
        worker = self._workers.get(stage)
        if worker is None or worker.process.identity != process:
            return None
        return WorkerAttempt(worker.process, attempt)

    def recover(self, state: RunState) -> None:
        """Take over what an earlier supervisor left; end what does something nobody knows of."""
        known = {
            self._run_dir.attempt(round, stage, state.rounds[round - 1].stages[stage].attempt).path
            for round, stage in state.active
        }
        for stage in STAGES:
            home = self._run_dir.worker(stage)
            record = _read_record(home)
            if record is None or (
                is_alive(record.process) and read_task(home.task) not in (None, *known)
            ):
                self._clear(home)
            else:
                process = StageProcess.adopt(record.process, home.path)
                self._workers[stage] = _Worker(process, record.digest)

    def end(self, stage: Stage) -> None:
        """End the stage's worker, if there is one, and wait until it is gone."""
        if (worker := self._workers.pop(stage, None)) is not None:
            end_now(worker.process)
        self._clear(self._run_dir.worker(stage))

    def end_all(self) -> None:
        for stage in list(self._workers):
            self.end(stage)

    def pids(self) -> set[int]:
        """Of all their processes. Any thread may ask."""
        homes = [worker.process.home for worker in list(self._workers.values())]
        return {found.pid for home in homes for found in attempt_processes(home)}

    def _start(
        self,
        stage: Stage,
        home: WorkerDir,
        command: list[str],
        environment: Mapping[str, str],
        digest: str,
    ) -> _Worker:
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        process = StageProcess.start(
            command, attempt_dir=home.path, log=home.log, environment=environment
        )
        record = Record(process.identity, digest)
        atomic.write_bytes(home.record, msgspec.json.encode(record) + b"\n", durable=False)
        self._workers[stage] = _Worker(process, digest)
        return self._workers[stage]

    def _clear(self, home: WorkerDir) -> None:
        if not home.path.exists():
            return
        kill_attempt(home.path)
        for path in (home.task, home.record):
            path.unlink(missing_ok=True)


def _digest(command: list[str], environment: Mapping[str, str]) -> str:
    told = msgspec.json.encode([command, dict(environment)], order="deterministic")
    return hashlib.sha256(told).hexdigest()


def _read_record(home: WorkerDir) -> Record | None:
    with contextlib.suppress(OSError, *BAD_JSON):
        return msgspec.json.decode(home.record.read_bytes(), type=Record)
    return None

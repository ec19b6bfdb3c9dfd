"""Owns the stage programs that stay between rounds, one for each stage: starts, hands over, ends
them.

One may be started before its first attempt is there, to import its libraries meanwhile. A worker's
tree carries the tag of its own directory, so that it can be found whatever attempt it is at. Its
record on disk lets the next supervisor take it over. `Launcher` gets an attempt going: with its
stage's worker, or with a program that begins from nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from halos_backend import atomic
from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.errors import HalosError
from halos_backend.events import STAGES, ProcessIdentity, Stage
from halos_backend.interpreters.programs import in_interpreter, stage_environment
from halos_backend.records import BAD_JSON
from halos_backend.store.handover import read_exit_code, read_task, write_task
from halos_backend.store.identity import is_alive
from halos_backend.store.job import Job
from halos_backend.store.run_dir import AttemptDir, RunDir, WorkerDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.plan import StartStage
from halos_backend.supervisor.processes.commands import (
    num_stage_processes,
    stage_python,
    worker_command,
)
from halos_backend.supervisor.processes.process import (
    StageProcess,
    attempt_processes,
    end_now,
    kill_attempt,
)

CROWDED = "the stages did not fit into memory beside each other; each has it to itself now"

MakeCommand = Callable[[Stage, Path, int], list[str]]
"""Makes the command line of (stage, attempt directory, number of processes)."""


class _Start(NamedTuple):
    """Says how a worker is started; the digest is of all that it cannot take back."""

    command: list[str]
    environment: dict[str, str]
    digest: str


class Record(msgspec.Struct, frozen=True):
    """Is what a worker's record file says; `digest` is of its command line and environment."""

    process: ProcessIdentity
    digest: str


@dataclass(frozen=True)
class _Worker:
    process: StageProcess
    digest: str


class WorkerAttempt:
    """Is an attempt that a worker executes, with the interface of a StageProcess.

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
        exit_code = read_exit_code(self._attempt)
        return self._worker.exit_code if exit_code is None else exit_code

    def end(self, *, grace_s: float) -> None:
        """Ends the worker, unless it has done its work and waits for more."""
        if read_exit_code(self._attempt) == 0 and self._worker.is_running:
            self._has_ended_well = True
        else:
            self._worker.end(grace_s=grace_s)

    def is_gone(self) -> bool:
        return self._has_ended_well or self._worker.is_gone()


class Workers:
    """Owns all workers of one run. `say` is called with a stage whose worker is no more,
    and why.
    """

    def __init__(self, run_dir: RunDir, say: Callable[[Stage, str], None]) -> None:
        self._run_dir = run_dir
        self._say = say
        self._workers: dict[Stage, _Worker] = {}

    def begin(
        self, attempt: AttemptDir, job: Job, settings: RunSettings
    ) -> tuple[list[str], WorkerAttempt]:
        """Hands the attempt to its stage's worker; a new one where there is none that fits.

        Returns its command line, too.
        """
        stage = job.stage
        home = self._run_dir.worker(stage)
        start = _start_of(stage, home, settings)
        if reason := self._why_not(stage, home, start.digest):
            self.end(stage, reason)
        worker = self._workers.get(stage)
        if worker is None:
            self._clear(home)
            worker = self._start(stage, home, start)
        write_task(home.task, attempt.path)
        if home.farewell.exists():  # it was about to leave, and may not have seen its task
            self.end(stage, _last_words(home))
            worker = self._start(stage, home, start)
            write_task(home.task, attempt.path)
        return start.command, WorkerAttempt(worker.process, attempt)

    def preload(self, stage: Stage, settings: RunSettings) -> None:
        """Starts the stage's worker before there is work for it, unless there is one.

        One that cannot be started is none: `begin` says why.
        """
        if stage in self._workers:
            return
        home = self._run_dir.worker(stage)
        try:
            self._clear(home)
            self._start(stage, home, _start_of(stage, home, settings))
        except (OSError, HalosError):
            with contextlib.suppress(HalosError):
                self.end(stage)

    def _why_not(self, stage: Stage, home: WorkerDir, digest: str) -> str:
        """Says why the stage's worker cannot go on; empty where it can, or there is none."""
        worker = self._workers.get(stage)
        if worker is None:
            return ""
        if home.farewell.exists():
            return _last_words(home)
        if not worker.process.is_running:
            return "it ended by itself"
        return "" if worker.digest == digest else "other settings hold for it"

    def adopt(
        self, stage: Stage, process: ProcessIdentity, attempt: AttemptDir
    ) -> WorkerAttempt | None:
        """Returns the attempt that an earlier supervisor gave to this process, if that is
        a worker.
        """
        worker = self._workers.get(stage)
        if worker is None or worker.process.identity != process:
            return None
        return WorkerAttempt(worker.process, attempt)

    def recover(self, state: RunState) -> None:
        """Takes over what an earlier supervisor left; ends what does something nobody knows of."""
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

    def end(self, stage: Stage, reason: str = "") -> None:
        """Ends the stage's worker, if there is one, and waits until it is gone."""
        if (worker := self._workers.pop(stage, None)) is not None:
            end_now(worker.process)
            if reason:
                self._say(stage, reason)
        self._clear(self._run_dir.worker(stage))

    def end_all(self, *, but: Collection[Stage] = (), reason: str = "") -> None:
        """Ends all workers. Raises HalosError for one that cannot be killed, when the others are
        gone.
        """
        failed: list[HalosError] = []
        for stage in [stage for stage in self._workers if stage not in but]:
            try:
                self.end(stage, reason)
            except HalosError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def pids(self) -> dict[Stage, set[int]]:
        """Returns the pids of each worker's processes. Any thread may ask."""
        homes = {stage: worker.process.home for stage, worker in list(self._workers.items())}
        return {
            stage: {found.pid for found in attempt_processes(home)} for stage, home in homes.items()
        }

    def _start(
        self,
        stage: Stage,
        home: WorkerDir,
        start: _Start,
    ) -> _Worker:
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        process = StageProcess.start(
            start.command, attempt_dir=home.path, log=home.log, environment=start.environment
        )
        self._workers[stage] = _Worker(process, start.digest)
        record = Record(process.identity, start.digest)
        atomic.write_bytes(home.record, msgspec.json.encode(record) + b"\n", durable=False)
        return self._workers[stage]

    def _clear(self, home: WorkerDir) -> None:
        if not home.path.exists():
            return
        kill_attempt(home.path)
        for path in (home.task, home.record, home.farewell):
            path.unlink(missing_ok=True)


def _start_of(stage: Stage, home: WorkerDir, settings: RunSettings) -> _Start:
    threads, python = settings.launch.num_threads, stage_python(stage, settings)
    if threads is None:
        raise ValueError("settings are not resolved: launch.num_threads is empty")
    command = in_interpreter(worker_command(stage, home.path, threads), python)
    environment = stage_environment(home.path, settings.launch, python=python)
    return _Start(command, environment, _digest(command, environment, *what_stays(stage, settings)))


def what_stays(stage: Stage, settings: RunSettings) -> tuple[Any, ...]:
    """Returns what a program that stays cannot take back once it has begun with it, besides its
    command.

    That is what vLLM reads when it is imported. A function's modules are in a process of their own.
    """
    judge = settings.label.judge
    match stage:
        case "sample":
            return (settings.sample.engine, settings.sample.vllm.model_dump(mode="json"))
        case "label":
            has_model = isinstance(judge, RewardModelJudge)
            return (judge.model_dump(mode="json") if has_model else judge.kind,)
        case "train":
            return ()


def _last_words(home: WorkerDir) -> str:
    try:
        return home.farewell.read_text().strip() or "it left"
    except OSError:
        return "it left"


def _digest(command: list[str], environment: Mapping[str, str], *stays: Any) -> str:
    described = msgspec.json.encode([command, dict(environment), *stays], order="deterministic")
    return hashlib.sha256(described).hexdigest()


def _read_record(home: WorkerDir) -> Record | None:
    with contextlib.suppress(OSError, *BAD_JSON):
        return msgspec.json.decode(home.record.read_bytes(), type=Record)
    return None


Process = StageProcess | WorkerAttempt


class Launcher:
    """Starts the attempts of one run. `say` is called with a stage whose worker is replaced, and
    why.
    """

    def __init__(
        self, run_dir: RunDir, say: Callable[[Stage, str], None], command: MakeCommand
    ) -> None:
        self.workers = Workers(run_dir, say)
        self._run_dir = run_dir
        self._command = command

    def make_room(
        self, action: StartStage, state: RunState, settings: RunSettings, *, busy: Collection[Stage]
    ) -> None:
        """Ends workers that hold memory for nothing.

        These are all but the `busy` ones of a run that is to have none any more, and the stage's
        own where a program begins from nothing instead.
        """
        if not state.keeps_workers(settings.launch.warm_workers):
            self.workers.end_all(but=busy, reason=CROWDED if state.is_crowded else "")
        elif action.attempt > 1:
            self.workers.end(action.stage)

    def launch(
        self, attempt: AttemptDir, job: Job, state: RunState, settings: RunSettings
    ) -> tuple[list[str], Process]:
        """Returns the command line, and what executes the attempt; second attempts begin from
        nothing.
        """
        launch, python = settings.launch, stage_python(job.stage, settings)
        is_warm = state.keeps_workers(launch.warm_workers)
        if is_warm and job.num_processes == 1 and job.attempt == 1:
            return self.workers.begin(attempt, job, settings)
        self.workers.end(job.stage)
        command = in_interpreter(self._command(job.stage, attempt.path, job.num_processes), python)
        environment = stage_environment(attempt.path, launch, python=python)
        return command, StageProcess.start(
            command, attempt_dir=attempt.path, log=attempt.log, environment=environment
        )

    def preload(self, stage: Stage, state: RunState, settings: RunSettings) -> None:
        """Lets, while `stage` works, those that come after it in the round import their
        libraries.
        """
        if not state.keeps_workers(settings.launch.warm_workers):
            return
        for later in STAGES[STAGES.index(stage) + 1 :]:
            if num_stage_processes(later, settings) == 1:
                self.workers.preload(later, settings)

    def unused_attempt(self, action: StartStage) -> tuple[StartStage, AttemptDir]:
        """Returns the attempt, or the next one that has no directory yet.

        A supervisor that died between starting a stage and recording it leaves a directory, and
        perhaps a process, that the journal does not know.
        """
        while (
            attempt := self._run_dir.attempt(action.round, action.stage, action.attempt)
        ).path.exists():
            kill_attempt(attempt.path)
            action = replace(action, attempt=action.attempt + 1)
        return action, attempt

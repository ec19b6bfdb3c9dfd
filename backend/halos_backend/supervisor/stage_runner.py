"""Runs stages for the supervisor: starts an attempt, watches it, and says how it ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from halos_backend import atomic, clock
from halos_backend.config.schema import RunSettings
from halos_backend.errors import CorruptFileError
from halos_backend.events import (
    RunEvent,
    Stage,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStarted,
)
from halos_backend.store.job import write_job
from halos_backend.store.live import fold_attempt
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.reader import attempt_journal, tail_lines
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState, StageState
from halos_backend.supervisor.jobs import make_job
from halos_backend.supervisor.launch import stage_command, stage_environment
from halos_backend.supervisor.plan import StartStage
from halos_backend.supervisor.process import StageProcess, kill_attempt

STOP_GRACE_S = 10.0
LAST_LINES = 15

Key = tuple[int, Stage]
MakeCommand = Callable[[Stage, Path, int], list[str]]
"""Command line of (stage, attempt directory, number of processes)."""


@dataclass
class _Running:
    process: StageProcess
    attempt: int
    started_t: float
    stop_reason: str | None = None


class StageRunner:
    """The stages that run now. Every outcome goes through `record`, which updates the state."""

    def __init__(
        self,
        run_dir: RunDir,
        settings: RunSettings,
        record: Callable[[RunEvent], None],
        *,
        command: MakeCommand = stage_command,
    ) -> None:
        self._run_dir = run_dir
        self._settings = settings
        self._record = record
        self._command = command
        self._running: dict[Key, _Running] = {}

    def start(self, action: StartStage, state: RunState) -> None:
        """Write the job and start its process in a new attempt directory."""
        action, attempt = self._unused_attempt(action)
        job = make_job(action, state, self._settings, self._run_dir)
        attempt.path.mkdir(parents=True, mode=0o700)
        write_job(attempt.job, job)
        command = self._command(action.stage, attempt.path, job.num_processes)
        process = StageProcess.start(
            command,
            attempt_dir=attempt.path,
            log=attempt.log,
            environment=stage_environment(attempt.path, self._settings.launch, os.environ),
        )
        started = StageStarted(
            t=clock.now(),
            round=action.round,
            stage=action.stage,
            attempt=action.attempt,
            process=process.identity,
            command=command,
        )
        try:
            self._record(started)
        except OSError:
            kill_attempt(attempt.path)  # what the journal does not know must not run
            process.is_gone()
            raise
        self._running[action.round, action.stage] = _Running(process, action.attempt, started.t)

    def recover(self, state: RunState) -> None:
        """Take up the stages that the journal calls running: alive, finished meanwhile, or dead."""
        for number, name in sorted(state.active):
            stage = state.rounds[number - 1].stages[name]
            attempt = self._run_dir.attempt(number, name, stage.attempt)
            if stage.process is None:
                continue
            process = StageProcess.adopt(stage.process, attempt.path)
            self._running[number, name] = _Running(process, stage.attempt, stage.started_t)
            if process.is_running:
                self._record(_adopted(number, stage))
            else:
                kill_attempt(attempt.path)
                self._settle(number, name, full=True)

    def poll(self) -> None:
        """Record the stages of which nothing runs any more since the last call."""
        for (round, stage), running in list(self._running.items()):
            if not running.process.is_running:
                running.process.end(grace_s=0.0)  # ranks and helpers that outlive it
            if running.process.is_ending and running.process.is_gone():
                self._settle(round, stage)

    def stop(self, round: int, stage: Stage, *, reason: str) -> None:
        """Begin to end a stage's tree; `poll` records the end. An attempt that got done counts."""
        running = self._running[round, stage]
        running.stop_reason = running.stop_reason or reason
        running.process.end(grace_s=STOP_GRACE_S)

    def _unused_attempt(self, action: StartStage) -> tuple[StartStage, AttemptDir]:
        """The attempt, or the next one that has no directory yet.

        A supervisor that died between starting a stage and recording it leaves a directory, and
        perhaps a process, that the journal does not know.
        """
        while (attempt := self._run_dir.attempt(*_key(action))).path.exists():
            kill_attempt(attempt.path)
            action = replace(action, attempt=action.attempt + 1)
        return action, attempt

    def _settle(self, round: int, stage: Stage, *, full: bool = False) -> None:
        """Decide by `DONE` whether the attempt counts, and record it."""
        running = self._running.pop((round, stage))
        process, number = running.process, running.attempt
        attempt = self._run_dir.attempt(round, stage, number)
        self._write_exit(attempt, process)
        manifest = read_done(attempt.path)
        damage = None if manifest is None else find_damage(attempt.path, manifest, full=full)
        if manifest is not None and damage is None:
            self._record(
                StageFinished(
                    t=clock.now(),
                    round=round,
                    stage=stage,
                    attempt=number,
                    elapsed_s=max(0.0, clock.now() - running.started_t),
                    summary=manifest.summary,
                )
            )
            return
        self._record(
            StageFailed(
                t=clock.now(),
                round=round,
                stage=stage,
                attempt=number,
                reason=running.stop_reason or damage or why_failed(attempt, process.exit_code),
                exit_code=process.exit_code,
                last_lines=tail_lines(attempt.log, LAST_LINES),
            )
        )

    def _write_exit(self, attempt: AttemptDir, process: StageProcess) -> None:
        ended = {"exit_code": process.exit_code, "t": clock.now()}
        with contextlib.suppress(OSError):  # a full disk; the journal says the same
            atomic.write_bytes(attempt.exit, msgspec.json.encode(ended) + b"\n", durable=False)


def why_failed(attempt: AttemptDir, exit_code: int | None) -> str:
    """The stage's own last word, else how its process ended."""
    try:
        said = fold_attempt(attempt_journal(attempt.events).read()).failure
    except (OSError, CorruptFileError) as error:
        said = f"it ended without DONE, and its journal cannot be read: {error}"
    if said is not None:
        return said
    if exit_code is None:
        return "it ended without DONE; its exit code was an earlier supervisor's to collect"
    if exit_code < 0:
        return f"its process was killed by signal {-exit_code}"
    return f"its process ended with exit code {exit_code} and no DONE; see {attempt.log}"


def _key(action: StartStage) -> tuple[int, Stage, int]:
    return action.round, action.stage, action.attempt


def _adopted(round: int, stage: StageState) -> StageAdopted:
    if stage.process is None:
        raise ValueError("only a stage with a process can be adopted")
    return StageAdopted(
        t=clock.now(),
        round=round,
        stage=stage.stage,
        attempt=stage.attempt,
        process=stage.process,
    )

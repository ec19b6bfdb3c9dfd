"""Runs stages for the supervisor: starts an attempt, watches it, and says how it ended."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from halos_backend import atomic, clock
from halos_backend.config.schema import RunSettings
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
from halos_backend.supervisor.process import StageProcess

STOP_GRACE_S = 10.0
LAST_LINES = 15

Key = tuple[int, Stage]


class StageRunner:
    """The stages that run now. Every outcome goes through `record`, which updates the state."""

    def __init__(
        self, run_dir: RunDir, settings: RunSettings, record: Callable[[RunEvent], None]
    ) -> None:
        self._run_dir = run_dir
        self._settings = settings
        self._record = record
        self._running: dict[Key, tuple[StageProcess, int, float]] = {}

    def start(self, action: StartStage, state: RunState) -> None:
        """Write the job and start its process in a new attempt directory."""
        attempt = self._run_dir.attempt(action.round, action.stage, action.attempt)
        attempt.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        job = make_job(action, state, self._settings, self._run_dir)
        write_job(attempt.job, job)
        command = stage_command(action.stage, attempt.path, job.num_processes)
        process = StageProcess.start(
            command,
            attempt_dir=attempt.path,
            log=attempt.log,
            environment=stage_environment(attempt.path, self._settings.launch, os.environ),
        )
        started_t = clock.now()
        self._running[action.round, action.stage] = (process, action.attempt, started_t)
        self._record(
            StageStarted(
                t=started_t,
                round=action.round,
                stage=action.stage,
                attempt=action.attempt,
                process=process.identity,
                command=command,
            )
        )

    def recover(self, state: RunState) -> None:
        """Take up the stages that the journal calls running: alive, finished meanwhile, or dead."""
        for number, name in sorted(state.active):
            stage = state.rounds[number - 1].stages[name]
            attempt = self._run_dir.attempt(number, name, stage.attempt)
            if stage.process is None:
                continue
            process = StageProcess.adopt(stage.process, attempt.path)
            self._running[number, name] = (process, stage.attempt, stage.started_t)
            if process.is_running:
                self._record(_adopted(number, stage))
            else:
                self._settle(number, name, full=True)

    def poll(self) -> None:
        """Record the stages that ended since the last call."""
        for round, stage in list(self._running):
            if not self._running[round, stage][0].is_running:
                self._settle(round, stage)

    def stop(self, round: int, stage: Stage, *, reason: str) -> None:
        """End a stage's whole tree; an attempt that was just done counts as done."""
        self._running[round, stage][0].kill_tree(grace_s=STOP_GRACE_S)
        self._settle(round, stage, reason=reason)

    def _settle(
        self, round: int, stage: Stage, *, reason: str | None = None, full: bool = False
    ) -> None:
        """Decide by `DONE` whether the attempt counts, and record it."""
        process, number, started_t = self._running.pop((round, stage))
        process.kill_tree(grace_s=0.0)  # ranks and helpers that outlived the first process
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
                    elapsed_s=clock.now() - started_t,
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
                reason=reason or damage or why_failed(attempt, process.exit_code),
                exit_code=process.exit_code,
                last_lines=tail_lines(attempt.log, LAST_LINES),
            )
        )

    def _write_exit(self, attempt: AttemptDir, process: StageProcess) -> None:
        ended = {"exit_code": process.exit_code, "t": clock.now()}
        atomic.write_bytes(attempt.exit, msgspec.json.encode(ended) + b"\n", durable=False)


def why_failed(attempt: AttemptDir, exit_code: int | None) -> str:
    """The stage's own last word, else how its process ended."""
    said = fold_attempt(attempt_journal(attempt.events).read()).failure
    if said is not None:
        return said
    if exit_code is None:
        return "its process ended while no supervisor was watching"
    if exit_code < 0:
        return f"its process was killed by signal {-exit_code}"
    return f"its process ended with exit code {exit_code} and no DONE; see {attempt.log}"


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

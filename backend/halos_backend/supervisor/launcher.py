"""Gets the program of an attempt going: the stage's worker, or one that begins from nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from halos_backend.config.schema import RunSettings
from halos_backend.events import STAGES, Stage
from halos_backend.interpreters.programs import in_interpreter, stage_environment
from halos_backend.store.job import Job
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.launch import num_stage_processes, stage_python
from halos_backend.supervisor.plan import StartStage
from halos_backend.supervisor.process import StageProcess, kill_attempt
from halos_backend.supervisor.workers import WorkerAttempt, Workers

CROWDED = "the stages did not fit into memory beside each other; each has it to itself now"

MakeCommand = Callable[[Stage, Path, int], list[str]]
"""Command line of (stage, attempt directory, number of processes)."""
Process = StageProcess | WorkerAttempt


class Launcher:
    """Of one run. `say` hears of a stage whose worker is replaced, and why."""

    def __init__(
        self, run_dir: RunDir, say: Callable[[Stage, str], None], command: MakeCommand
    ) -> None:
        self.workers = Workers(run_dir, say)
        self._run_dir = run_dir
        self._command = command

    def make_room(
        self, action: StartStage, state: RunState, settings: RunSettings, *, busy: Collection[Stage]
    ) -> None:
        """End workers that hold memory for nothing: all but the `busy` of a run that is to have
        none any more; the stage's own where a program begins from nothing instead.
        """
        if not state.keeps_workers(settings.launch.warm_workers):
            self.workers.end_all(but=busy, reason=CROWDED if state.is_crowded else "")
        elif action.attempt > 1:
            self.workers.end(action.stage)

    def launch(
        self, attempt: AttemptDir, job: Job, state: RunState, settings: RunSettings
    ) -> tuple[list[str], Process]:
        """The command line, and what executes the attempt; second attempts begin from nothing."""
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
        """While `stage` works, let those that come after it in the round import their libraries."""
        if not state.keeps_workers(settings.launch.warm_workers):
            return
        for later in STAGES[STAGES.index(stage) + 1 :]:
            if num_stage_processes(later, settings) == 1:
                self.workers.preload(later, settings)

    def unused_attempt(self, action: StartStage) -> tuple[StartStage, AttemptDir]:
        """The attempt, or the next one that has no directory yet.

        A supervisor that died between starting a stage and recording it leaves a directory, and
        perhaps a process, that the journal does not know.
        """
        while (
            attempt := self._run_dir.attempt(action.round, action.stage, action.attempt)
        ).path.exists():
            kill_attempt(attempt.path)
            action = replace(action, attempt=action.attempt + 1)
        return action, attempt

"""Runs stages for the supervisor: starts an attempt, watches it, and says how it ended.

It notices a stage that says nothing any more, and decides whether an ended attempt counts, and if
not, why and what it leaves.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from halos_backend import clock
from halos_backend.config.schema import LaunchSettings, RunSettings
from halos_backend.errors import CorruptFileError, ExitCode
from halos_backend.events import (
    Cause,
    RunEvent,
    Stage,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStalled,
    StageStarted,
    WorkerReplaced,
)
from halos_backend.interpreters.device import device_names
from halos_backend.store.attempt_state import fold_attempt
from halos_backend.store.handover import write_exit_code
from halos_backend.store.job import write_job
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.reader import attempt_journal, tail_lines
from halos_backend.store.round_state import StageState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.jobs import make_job
from halos_backend.supervisor.plan import StartStage
from halos_backend.supervisor.processes.commands import stage_command
from halos_backend.supervisor.processes.process import (
    StageProcess,
    attempt_processes,
    end_now,
    open_pidfd,
)
from halos_backend.supervisor.processes.workers import Launcher, MakeCommand, Process, WorkerAttempt
from halos_backend.telemetry.host import read_oom_kills

STOP_GRACE_S = 10.0
LAST_LINES = 15

RunSlow = Callable[[Callable[[], str | None]], str | None]
"""Does something that takes long while requests go on being answered."""
ENDING_POLL_S = 0.02

LOOK_EVERY_S = 1.0
OWN_STOP_S = 5.0
"""Is the time between two calls from which on the supervisor itself was stopped: silence then is no
sign.
"""

PARTIAL_STEP = re.compile(r"step_(\d+)")

Key = tuple[int, Stage]
"""Names a stage by its round and name."""


class Silence:
    """Measures how long one attempt's journal has not grown."""

    def __init__(self, attempt: AttemptDir) -> None:
        self._attempt = attempt
        self._size = -1
        self._since = self._looked = clock.monotonic()

    def too_long(self, launch: LaunchSettings) -> tuple[float, str] | None:
        """Returns (seconds of silence, phase) once the limit of the phase is passed; else None."""
        now = clock.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return None
        was_stopped = now - self._looked > OWN_STOP_S
        self._looked = now
        size = self._journal_size()
        if size != self._size or was_stopped:
            self._size, self._since = size, now
        silent_s = now - self._since
        if silent_s < min(launch.stall_timeout_s, launch.load_timeout_s):
            return None
        phase = self._phase()
        is_loading = phase.startswith(("starting", "loading"))
        limit = launch.load_timeout_s if is_loading else launch.stall_timeout_s
        return (silent_s, phase) if silent_s >= limit else None

    def _journal_size(self) -> int:
        try:
            return self._attempt.events.stat().st_size
        except OSError:
            return 0

    def _phase(self) -> str:
        try:
            return fold_attempt(attempt_journal(self._attempt.events).read()).phase
        except (OSError, CorruptFileError):
            return "an unknown phase"


class Failure(NamedTuple):
    """Says why an attempt has no result."""

    reason: str
    cause: Cause


def why_failed(attempt: AttemptDir, exit_code: int | None, *, num_oom_kills: int) -> Failure:
    """Takes the stage's own last word, else how its process ended.

    A SIGKILL is the kernel's, for want of memory, only when its `oom_kill` count rose meanwhile.
    """
    try:
        live = fold_attempt(attempt_journal(attempt.events).read())
    except (OSError, CorruptFileError) as error:
        return Failure(f"it ended without DONE, and its journal cannot be read: {error}", "crashed")
    if live.failure is not None:
        return Failure(live.failure, live.cause)
    if exit_code is None:
        return Failure("it ended without DONE while no supervisor watched", "lost")
    if exit_code != 0 and num_oom_kills > 0:
        return Failure(
            "the kernel killed it: the machine or its cgroup ran out of memory (oom_kill rose)",
            "out_of_memory",
        )
    if exit_code < 0:
        return Failure(f"its process was killed by signal {-exit_code}", "crashed")
    cause: Cause = "refused" if exit_code == ExitCode.USAGE else "crashed"
    return Failure(
        f"its process ended with exit code {exit_code} and no DONE; see {attempt.log}", cause
    )


def count_durable(attempt: AttemptDir, stage: Stage) -> int:
    """Counts what a later attempt can take over: complete rows, or optimizer steps."""
    match stage:
        case "sample":
            return _num_lines(attempt.completions)
        case "label":
            return _num_lines(attempt.rewards)
        case "train":
            steps = [
                int(match[1])
                for path in attempt.partial_state.glob("step_*")
                if (match := PARTIAL_STEP.fullmatch(path.name))
            ]
            return max(steps, default=0)


def _num_lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


@dataclass
class _Running:
    process: Process
    attempt: int
    started_t: float
    pidfd: int | None
    silence: Silence
    oom_kills: int | None
    stopped: Failure | None = None


class StageRunner:
    """Runs the stages of one run. Every outcome goes through `record`, which updates the state."""

    def __init__(
        self,
        run_dir: RunDir,
        record: Callable[[RunEvent], None],
        *,
        run_slow: RunSlow,
        meter: Meter | None = None,
        command: MakeCommand = stage_command,
    ) -> None:
        self._run_dir = run_dir
        self._record = record
        self._run_slow = run_slow
        self._meter = meter
        self._launcher = Launcher(run_dir, self._say_replaced, command)
        self._workers = self._launcher.workers
        self._running: dict[Key, _Running] = {}

    def make_room(self, action: StartStage, state: RunState, settings: RunSettings) -> None:
        """Ends workers that hold memory for nothing, before the attempt starts."""
        busy = [stage for _, stage in self._running]
        self._launcher.make_room(action, state, settings, busy=busy)

    def start(self, action: StartStage, state: RunState, settings: RunSettings) -> None:
        """Writes the job and starts its process in a new attempt directory."""
        action, attempt = self._launcher.unused_attempt(action)
        job = make_job(action, state, settings, self._run_dir)
        attempt.path.mkdir(parents=True, mode=0o700)
        write_job(attempt.job, job)
        command, process = self._launcher.launch(attempt, job, state, settings)
        started = StageStarted(
            t=clock.now(),
            round=action.round,
            stage=action.stage,
            attempt=action.attempt,
            process=process.identity,
            command=command,
            devices=list(device_names(settings.launch)),
            is_warm=isinstance(process, WorkerAttempt),
        )
        try:
            self._record(started)
        except OSError:
            end_now(process)  # what the journal does not know must not run
            raise
        self._watch(action.round, action.stage, action.attempt, process, started.t)
        self._launcher.preload(action.stage, state, settings)

    def recover(self, state: RunState) -> None:
        """Takes up the stages that the journal calls running: alive, finished meanwhile,
        or dead.
        """
        self._workers.recover(state)
        for number, name in state.active:
            stage = state.rounds[number - 1].stages[name]
            attempt = self._run_dir.attempt(number, name, stage.attempt)
            if stage.process is None:
                continue
            process = self._workers.adopt(name, stage.process, attempt) or StageProcess.adopt(
                stage.process, attempt.path
            )
            self._watch(number, name, stage.attempt, process, stage.started_t)
            if process.is_running:
                self._record(_adopted(number, stage))
            else:
                end_now(process)
                self._settle(number, name, full=True)

    def poll(self, settings: RunSettings) -> None:
        """Records the stages of which nothing runs any more since the last call."""
        for (round, stage), running in list(self._running.items()):
            if not running.process.is_running:
                running.process.end(grace_s=0.0)  # ranks and helpers that outlive it
            elif running.stopped is None:
                self._check_silence(round, stage, running, settings)
            if running.process.is_ending and running.process.is_gone():
                self._settle(round, stage)

    def stop(self, round: int, stage: Stage, *, reason: str, cause: Cause = "stopped") -> None:
        """Begins to end a stage's tree; `poll` records the end. An attempt that got done counts."""
        running = self._running[round, stage]
        running.stopped = running.stopped or Failure(reason, cause)
        running.process.end(grace_s=STOP_GRACE_S)

    def sleep(self, timeout_s: float) -> None:
        """Sleeps until a stage's first process ends, or that long."""
        if any(running.process.is_ending for running in self._running.values()):
            time.sleep(ENDING_POLL_S)
            return
        fds = [running.pidfd for running in self._running.values() if running.pidfd is not None]
        select.select(fds, [], [], timeout_s)

    def end_workers(self) -> None:
        """Ends all workers when no stage will follow for a while: they hold memory."""
        self._workers.end_all()

    def end_worker(self, stage: Stage, reason: str) -> None:
        """Ends a worker that is parked and does not let go of its memory."""
        self._workers.end(stage, reason)

    def parked_pids(self) -> dict[Stage, set[int]]:
        """Returns the pids of the workers that wait for their next attempt. Any thread may ask."""
        busy = {stage for _, stage in self.processes()}
        return {stage: pids for stage, pids in self._workers.pids().items() if stage not in busy}

    def running_pids(self) -> set[int]:
        """Returns the pids of the stages that run. Any thread may ask."""
        homes = [process.home for process in self.processes().values()]
        return {found.pid for home in homes for found in attempt_processes(home)}

    def processes(self) -> dict[Key, Process]:
        """Returns the first process of each stage that runs. Any thread may ask."""
        return {key: running.process for key, running in list(self._running.items())}

    def _watch(
        self, round: int, stage: Stage, number: int, process: Process, started_t: float
    ) -> None:
        silence = Silence(self._run_dir.attempt(round, stage, number))
        self._running[round, stage] = _Running(
            process, number, started_t, open_pidfd(process), silence, read_oom_kills()
        )
        if self._meter is not None:
            self._meter.begin((round, stage))

    def _check_silence(
        self, round: int, stage: Stage, running: _Running, settings: RunSettings
    ) -> None:
        if (silent := running.silence.too_long(settings.launch)) is None:
            return
        silent_s, phase = silent
        self._record(
            StageStalled(
                t=clock.now(),
                round=round,
                stage=stage,
                attempt=running.attempt,
                silent_s=silent_s,
                phase=phase,
            )
        )
        reason = f"it stalled: no sign of life for {silent_s:.0f} s while {phase}"
        self.stop(round, stage, reason=reason, cause="stalled")

    def _settle(self, round: int, stage: Stage, *, full: bool = False) -> None:
        """Decides by `DONE` whether the attempt counts, and records it."""
        running = self._running[round, stage]
        number = running.attempt
        attempt = self._run_dir.attempt(round, stage, number)
        write_exit_code(attempt, running.process.exit_code)
        manifest = read_done(attempt.path)
        damage = None
        if manifest is not None:
            check = partial(find_damage, attempt.path, manifest, full=full)
            damage = self._run_slow(check) if full else check()
        measured = self._forget(round, stage)
        if manifest is not None and damage is None:
            self._record(
                StageFinished(
                    t=clock.now(),
                    round=round,
                    stage=stage,
                    attempt=number,
                    elapsed_s=max(0.0, clock.now() - running.started_t),
                    summary={**manifest.summary, **measured},
                )
            )
            return
        failure = running.stopped or self._failure(attempt, running, damage)
        self._record(
            StageFailed(
                t=clock.now(),
                round=round,
                stage=stage,
                attempt=number,
                reason=failure.reason,
                exit_code=running.process.exit_code,
                last_lines=self._last_lines(stage, attempt),
                cause=failure.cause,
                durable=count_durable(attempt, stage),
            )
        )

    def _last_lines(self, stage: Stage, attempt: AttemptDir) -> list[str]:
        """Returns the end of an attempt's log; what a worker said that never got to its attempt is
        in its own log.
        """
        log = attempt.log if attempt.log.exists() else self._run_dir.worker(stage).log
        return tail_lines(log, LAST_LINES)

    def _say_replaced(self, stage: Stage, reason: str) -> None:
        self._record(WorkerReplaced(t=clock.now(), stage=stage, reason=reason))

    def _forget(self, round: int, stage: Stage) -> dict[str, Any]:
        running = self._running.pop((round, stage))
        if running.pidfd is not None:
            os.close(running.pidfd)
        return {} if self._meter is None else self._meter.end((round, stage))

    def _failure(self, attempt: AttemptDir, running: _Running, damage: str | None) -> Failure:
        if damage is not None:
            return Failure(damage, "damaged")
        now, before = read_oom_kills(), running.oom_kills
        rise = 0 if now is None or before is None else now - before
        return why_failed(attempt, running.process.exit_code, num_oom_kills=rise)


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


class Meter(Protocol):
    """Measures what a stage uses while it runs."""

    def begin(self, key: Key) -> None: ...

    def end(self, key: Key) -> dict[str, Any]:
        """Returns numbers for the stage's summary."""
        ...

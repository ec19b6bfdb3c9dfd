"""The supervisor: asks `plan` what comes next, does it, and writes down what happened.

It holds the run's lock and is the only writer of the journal. It never imports a stage.
"""

from __future__ import annotations

import shutil
import signal
import time
from types import FrameType

import msgspec

from halos_backend import __version__, atomic, clock
from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError
from halos_backend.events import (
    AbortRequested,
    CheckpointPruned,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
    SupervisorStarted,
)
from halos_backend.store.identity import own_identity
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.reader import run_journal
from halos_backend.store.registry import write_snapshot
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import ENDED, RoundState, RunState, apply, fold
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor import control
from halos_backend.supervisor.plan import (
    AbortRun,
    Action,
    FailRun,
    FinishRound,
    FinishRun,
    Prune,
    StartRound,
    StartStage,
    StopStage,
    Wait,
    plan,
)
from halos_backend.supervisor.retention import Prunable
from halos_backend.supervisor.stage_runner import StageRunner

TICK_S = 0.05
HEARTBEAT_S = 1.0


class Supervisor:
    """One supervisor of one run. `run` returns when the run has ended, failed or was paused."""

    def __init__(self, run_dir: RunDir, settings: RunSettings) -> None:
        self.run_dir = run_dir
        self.settings = settings
        self._writer = EventWriter(run_dir.events)  # ends a torn tail, so it comes before reading
        reader = run_journal(run_dir.events)
        self.state: RunState = fold(reader.read())
        self._stages = StageRunner(run_dir, settings, self._record)
        self._terminated = False
        self._beats = 0
        self._last_beat = float("-inf")

    def run(self) -> None:
        """Do what `plan` says until it says nothing more."""
        if self.state.status in ENDED:
            return
        self._install_signals()
        self._start()
        while actions := self._next_actions():
            for action in actions:
                self._execute(action)

    def _start(self) -> None:
        process = own_identity()
        self._record(
            SupervisorStarted(
                t=clock.now(),
                generation=self.state.generation + 1,
                process=process,
                version=__version__,
            )
        )
        self._stages.recover(self.state)
        if self.state.status in ("failed", "paused") or self.state.failure is not None:
            self._record(RunResumed(t=clock.now()))

    def _next_actions(self) -> tuple[Action, ...]:
        self._beat()
        self._answer_requests()
        if self._terminated:
            self._pause()
        return plan(self.state, self.settings)

    def _execute(self, action: Action) -> None:
        match action:
            case Wait():
                self._stages.poll()
                if self.state.active:
                    time.sleep(TICK_S)
            case StartRound():
                self._start_round(action)
            case StartStage():
                self._stages.start(action, self.state)
            case StopStage(round=round, stage=stage):
                self._stages.stop(round, stage, reason="aborted")
            case FinishRound():
                self._finish_round(action)
            case Prune(what=what):
                for prunable in what:
                    self._delete(prunable)
            case FinishRun(reason=reason):
                self._record(RunCompleted(t=clock.now(), reason=reason))
            case FailRun(reason=reason):
                self._record(RunFailed(t=clock.now(), reason=reason))
            case AbortRun():
                request_id = self.state.abort_request_id or ""
                self._record(RunAborted(t=clock.now(), request_id=request_id))

    def _start_round(self, action: StartRound) -> None:
        settings = self.settings.model_dump(mode="json")
        path = self.run_dir.round_settings(action.round)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write_bytes(path, msgspec.json.format(msgspec.json.encode(settings)) + b"\n")
        self._record(
            RoundStarted(
                t=clock.now(),
                round=action.round,
                cursor=action.cursor,
                num_prompts=action.num_prompts,
                settings=settings,
            )
        )

    def _finish_round(self, action: FinishRound) -> None:
        round = self.state.rounds[action.round - 1]
        checkpoint = None if action.untrained else self._proven_checkpoint(round)
        if checkpoint is not None:
            atomic.replace_symlink(self.run_dir.final, checkpoint)
        self._record(
            RoundFinished(
                t=clock.now(),
                round=round.round,
                checkpoint=checkpoint,
                metrics=_round_metrics(round),
                untrained=action.untrained,
            )
        )
        self._delete_partial_states(round)

    def _proven_checkpoint(self, round: RoundState) -> str:
        attempt = self.run_dir.attempt(round.round, "train", round.stages["train"].attempt)
        manifest = read_done(attempt.path)
        damage = "DONE cannot be read" if manifest is None else find_damage(attempt.path, manifest)
        if damage is not None:
            raise HalosError(f"the checkpoint of round {round.round} is damaged: {damage}")
        return self.run_dir.relative(attempt.checkpoint)

    def _delete_partial_states(self, round: RoundState) -> None:
        """Mid-round states of failed attempts; the round's checkpoint is proven by now."""
        last = round.stages["train"].attempt if "train" in round.stages else 0
        for number in range(1, last + 1):
            path = self.run_dir.attempt(round.round, "train", number).partial_state
            if path.exists():
                self._delete(Prunable(round.round, self.run_dir.relative(path)))

    def _delete(self, what: Prunable) -> None:
        path = self.run_dir.path / what.path
        freed = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if path.exists():
            shutil.rmtree(path)
        self._record(
            CheckpointPruned(t=clock.now(), round=what.round, path=what.path, freed_bytes=freed)
        )

    def _answer_requests(self) -> None:
        for path, request in control.pending(self.run_dir):
            if request is not None and self.state.abort_request_id is None:
                self._record(AbortRequested(t=clock.now(), request_id=request.request_id))
            control.file_away(self.run_dir, path)

    def _pause(self) -> None:
        for round, stage in sorted(self.state.active):
            self._stages.stop(round, stage, reason="interrupted: the supervisor was told to stop")
        if self.state.status == "running":
            self._record(RunPaused(t=clock.now(), reason="interrupted"))

    def _record(self, event: RunEvent) -> None:
        """Write the event down, then let it be true."""
        self._writer.append(event, durable=True)
        self.state = apply(self.state, event)
        write_snapshot(self.run_dir, self.state, offset=self._writer.size)

    def _beat(self) -> None:
        if clock.monotonic() - self._last_beat < HEARTBEAT_S:
            return
        self._last_beat = clock.monotonic()
        self._beats += 1
        atomic.write_bytes(self.run_dir.heartbeat, f"{self._beats}\n".encode(), durable=False)

    def _install_signals(self) -> None:
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True


def _round_metrics(round: RoundState) -> dict[str, object]:
    """The few numbers that a table of rounds shows."""
    wanted = {
        "sample": ("num_completions", "length_mean", "truncated_frac", "unique_frac"),
        "label": ("reward_mean", "reward_std", "num_unscored", "num_feedback"),
        "train": ("loss_last", "kl_initial", "implicit_reward_accuracy", "num_steps"),
    }
    return {
        key: stage.summary[key]
        for name, stage in round.stages.items()
        for key in wanted[name]
        if key in stage.summary
    }

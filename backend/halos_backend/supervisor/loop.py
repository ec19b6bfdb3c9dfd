"""Owns the supervisor: it asks `plan` what comes next, does it, and writes down what happened.

It holds the run's lock and is the only writer of the journal. It never imports a stage. What takes
long runs in a thread, so that the supervisor stays awake meanwhile.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from types import FrameType
from typing import Any, TypeVar, assert_never

from pydantic import ValidationError

from halos_backend import __version__, clock
from halos_backend.config.schema import RunSettings
from halos_backend.errors import CorruptFileError, HalosError
from halos_backend.events import (
    AbortRequested,
    RunAborted,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunPaused,
    SettingsChanged,
    Stage,
    StageDelayed,
    StageFailed,
    StageFinished,
    SupervisorStarted,
    VersionsChanged,
)
from halos_backend.store.identity import is_alive, own_identity
from halos_backend.store.reader import run_journal
from halos_backend.store.registry import check_readable
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import AT_WORK, RunState, RunStatus, apply, fold
from halos_backend.store.writer import EventWriter
from halos_backend.supervisor.gpus.memory_gate import UNKNOWN, Admission
from halos_backend.supervisor.guards import GuardWatch
from halos_backend.supervisor.heartbeat import Heartbeat
from halos_backend.supervisor.notify import Notifier
from halos_backend.supervisor.plan import (
    AbortRun,
    Action,
    Ending,
    FailRun,
    FinishRound,
    FinishRun,
    PauseRun,
    Prune,
    StartRound,
    StartStage,
    StopStage,
    Wait,
    plan,
)
from halos_backend.supervisor.processes.commands import stage_command
from halos_backend.supervisor.processes.guardian import become_subreaper
from halos_backend.supervisor.processes.process import attempt_processes
from halos_backend.supervisor.processes.stage_runner import Key, StageRunner
from halos_backend.supervisor.processes.subreaper import reap_strays
from halos_backend.supervisor.processes.workers import MakeCommand
from halos_backend.supervisor.provenance import (
    changed_inputs,
    changed_versions,
    code_versions,
    refusal,
)
from halos_backend.supervisor.requests import RequestAnswerer, check_answered
from halos_backend.supervisor.rounds import Rounds
from halos_backend.supervisor.warm_choice import WarmChoice
from halos_backend.telemetry.sampler import Sampler

GOING_ON: frozenset[RunStatus] = frozenset({"running", "pausing"})
LAST_EVENTS = 32
"""Is how many events of an earlier supervisor are read again."""
NOTIFY_LIMIT_S = 2.0
"""Is how long the supervisor waits for the last notification, which goes on without it
after that.
"""

T = TypeVar("T")

TICK_S = 0.05


class Supervisor:
    """Supervises one run. `run` returns when the run has ended or waits for its owner."""

    def __init__(self, run_dir: RunDir, *, command: MakeCommand = stage_command) -> None:
        self.run_dir = run_dir
        reader = run_journal(run_dir.events)
        journal = reader.read()
        check_answered(run_dir, journal)  # while nothing is changed yet
        self._writer = EventWriter(run_dir.events)  # ends a torn tail
        journal += reader.read()  # which may be whole but for its end
        self.state: RunState = check_readable(fold(journal), run_dir)
        self._cache = SettingsCache(run_dir)
        self._cache.at_hand(self.state)
        self._requests = RequestAnswerer(run_dir, journal, self._record_answer)
        self._last_events = journal[-LAST_EVENTS:]
        self._rounds = Rounds(run_dir, self._record, run_slow=self._run_slow)
        self._guards = GuardWatch(run_dir, self._record)
        self._sampler = Sampler(run_dir, processes=self._stage_pids)
        self._stages = StageRunner(
            run_dir,
            self._record_stage,
            run_slow=self._run_slow,
            meter=self._sampler,
            command=command,
        )
        self._admission = Admission(run_dir, self._sampler, self._stages)
        self._warm_choice = WarmChoice(
            run_dir,
            self._record,
            parked_pids=self._stages.parked_pids,
            latest=lambda: self._sampler.latest,
        )
        self._heartbeat = Heartbeat(run_dir)
        self._notifier = Notifier(run_dir)
        self._terminated = False

    def run(self) -> None:
        """Does what `plan` says until it says nothing more.

        Raises OSError when the journal cannot be written; the stage that runs then goes on, and the
        next supervisor takes it up.
        """
        if self.state.status not in ("created", *AT_WORK) and not self._requests.has_requests:
            return
        self._install_signals()
        self._sampler.start()
        try:
            self._start()
            while actions := self._next_actions():
                for action in actions:
                    self._execute(action)
            self._stages.end_workers()
        finally:
            self._sampler.stop()
            self._admission.release()
            self._warm_choice.release()
            self._notifier.finish(NOTIFY_LIMIT_S)
            self._heartbeat.snapshot(self.state, offset=self._writer.size)

    def _start(self) -> None:
        known, versions = self.state.versions, code_versions()
        went_on, gone = _stages_left(self.state)
        self._record(
            SupervisorStarted(
                t=clock.now(),
                generation=self.state.generation + 1,
                process=own_identity(),
                version=__version__,
                versions=versions,
                after_crash=self.state.status in AT_WORK,
                went_on=went_on,
                gone=gone,
            )
        )
        look = partial(changed_inputs, self.run_dir, self.state, self._cache.at_hand(self.state))
        inputs = run_slow(look, meanwhile=self._beat)  # whether to go on is not known yet
        changes = {**changed_versions(known, versions), **inputs.announced}
        if changes:
            self._record(VersionsChanged(t=clock.now(), changes=changes))
        if inputs.refused:
            self._requests.refusal = refusal(inputs.refused, self.run_dir)
        if (round := self.state.round_at_hand) <= len(self.state.rounds):
            # its settings may have changed just before an earlier supervisor died
            self._rounds.write_settings(round, self.state.settings_of(round))
        self._guards.look_again(self._last_events, self.state, self._cache.at_hand(self.state))
        if self.state.active:
            self._admission.claim(self._cache.at_hand(self.state).launch)
        self._stages.recover(self.state)

    def _next_actions(self) -> tuple[Action, ...]:
        self._stay_awake()
        if self._terminated and self.state.status in AT_WORK:
            return self._stop_now()
        if self._requests.refusal and self.state.status in GOING_ON and not self.state.active:
            return self._refused(self._requests.refusal)
        return plan(self.state, self._cache.at_hand(self.state), clock.now())

    def _refused(self, reason: str) -> tuple[Action, ...]:
        """Ends the loop: the run does not go on; one whose rounds are done ends without a score."""
        closing = self.state.closing
        if closing is None:
            return (FailRun(reason),)
        if closing.finished_t is None:
            return (FinishRound(closing.round, unscored=reason),)
        actions = plan(self.state, self._cache.at_hand(self.state), clock.now())
        goes_on = any(isinstance(action, StartRound) for action in actions)
        return (FailRun(reason),) if goes_on else actions

    def _stay_awake(self) -> None:
        """Does what must not wait for anything else."""
        self._beat()
        self._requests.answer_all(lambda: self.state)
        self._notifier.poll()

    def _beat(self) -> None:
        self._heartbeat.beat(self.state, offset=self._writer.size)

    def _execute(self, action: Action) -> None:
        """Does one action. A disk that refuses it while nothing runs fails the run, resumably."""
        try:
            self._do(action)
        except OSError as error:
            if self.state.active or self.state.status not in AT_WORK:
                raise
            if isinstance(action, StartRound) and action.closing:
                self._stop(
                    FinishRun(f"all rounds are done; the final policy has no score: {error}")
                )
            else:
                self._fail(str(error))

    def _fail(self, reason: str) -> None:
        """Fails the run, which waits for its owner; one whose rounds are done ends
        without a score.
        """
        closing = self.state.closing
        if closing is not None and closing.finished_t is None:
            self._rounds.finish(FinishRound(closing.round, unscored=reason), self.state)
        else:
            self._record(RunFailed(t=clock.now(), reason=reason))

    def _do(self, action: Action) -> None:
        match action:
            case Wait():
                self._wait()
            case StartRound():
                self._start_round(action)
            case StartStage():
                self._start_stage(action)
            case StopStage(round=round, stage=stage, reason=reason):
                self._stages.stop(round, stage, reason=reason)
                self._wait()
            case FinishRound():
                self._rounds.finish(action, self.state)
            case Prune(what=what):
                self._rounds.delete(*what)
            case PauseRun() | FinishRun() | FailRun() | AbortRun():
                self._stop(action)

    def _stop(self, ending: Ending) -> None:
        """Stops the run. Programs in memory go first: who reads of its end finds the GPUs free."""
        with contextlib.suppress(HalosError):  # one that cannot be killed does not keep it running
            self._stages.end_workers()
        self._record(ending_event(ending, self.state))

    def _start_round(self, action: StartRound) -> None:
        settings = self._cache.at_hand(self.state)
        if action.closing is None:
            self._guards.before_round(self.state, settings)
        if self.state.status == "running":
            self._rounds.begin(action, settings.model_dump(mode="json"))

    def _start_stage(self, action: StartStage) -> None:
        settings = self._cache.at_hand(self.state)
        try:
            self._stages.make_room(action, self.state, settings)
            obstacle = self._admission.obstacle(settings.launch)
        except HalosError as error:
            if self.state.active:
                self._wait()
            else:
                self._fail(str(error))
            return
        if obstacle is None:
            if not self._warm_choice.make(action.round, self.state, settings):
                self._stages.start(action, self.state, settings)
            return  # otherwise there is room to be made first
        if obstacle not in (UNKNOWN, self.state.obstacle):
            self._record(
                StageDelayed(
                    t=clock.now(),
                    round=action.round,
                    stage=action.stage,
                    attempt=action.attempt,
                    reason=obstacle,
                )
            )
        self._wait()

    def _stage_pids(self) -> dict[Key, list[int]]:
        """Returns the pids of each stage, for the sampler's thread."""
        return {
            key: [found.pid for found in attempt_processes(process.home)]
            for key, process in self._stages.processes().items()
        }

    def _wait(self) -> None:
        """Waits for a tick, unless a stage has ended: then there is something to do."""
        active = self.state.active
        self._stages.poll(self._cache.at_hand(self.state))
        reap_strays()
        if self.state.active == active:
            self._stages.sleep(TICK_S)

    def _run_slow(self, work: Callable[[], T]) -> T:
        return run_slow(work, meanwhile=self._stay_awake)

    def _record_answer(self, event: RunEvent) -> None:
        self._record(event)
        if isinstance(event, SettingsChanged) and event.from_round <= len(self.state.rounds):
            self._rounds.write_settings(event.from_round, self.state.settings_of(event.from_round))

    def _stop_now(self) -> tuple[Action, ...]:
        """Stops what runs, then says that the run is paused; an abort is done at once."""
        if self.state.status == "aborting":
            if self.state.abort_when != "now":
                request_id = self.state.abort_request_id or ""
                self._record(AbortRequested(t=clock.now(), request_id=request_id))
            return plan(self.state, self._cache.at_hand(self.state), clock.now())
        for round, stage in self.state.active:
            self._stages.stop(round, stage, reason="interrupted: the supervisor was told to stop")
        if self.state.active:
            return (Wait(),)
        self._stop(PauseRun("interrupted"))
        return ()

    def _record_stage(self, event: RunEvent) -> None:
        self._record(event)
        if isinstance(event, StageFinished | StageFailed):
            self._guards.after_stage(event, self.state, self._cache.at_hand(self.state))

    def _record(self, event: RunEvent) -> None:
        """Writes the event down, then lets it be true."""
        self._writer.append(event, durable=True)
        self.state = apply(self.state, event)
        self._notifier.notify(event, self.state, self._cache.at_hand(self.state).notify)

    def _install_signals(self) -> None:
        # an inherited SIG_IGN would make the kernel reap the stages and lose their exit codes
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # the guardian blocked it
        become_subreaper()

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True


def _stages_left(state: RunState) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
    """Returns the stages that an earlier supervisor left running: which run still, and which do
    not.
    """
    left = {
        stage: (process := state.rounds[round - 1].stages[stage].process) is not None
        and is_alive(process)
        for round, stage in state.active
    }
    went_on = tuple(stage for stage, is_running in left.items() if is_running)
    return went_on, tuple(stage for stage in left if stage not in went_on)


def ending_event(ending: Ending, state: RunState) -> RunEvent:
    """Returns the event that makes the ending true, as of now."""
    t = clock.now()
    match ending:
        case PauseRun(reason=reason):
            return RunPaused(t=t, reason=reason)
        case FinishRun(reason=reason):
            return RunCompleted(t=t, reason=reason)
        case FailRun(reason=reason):
            return RunFailed(t=t, reason=reason)
        case AbortRun():
            return RunAborted(t=t, request_id=state.abort_request_id or "")
        case _:
            assert_never(ending)


def run_slow(work: Callable[[], T], *, meanwhile: Callable[[], None]) -> T:
    """Returns the result of `work`, or raises what it raises; `meanwhile` is called again and
    again.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not future.done():
        meanwhile()
        wait([future], timeout=TICK_S)
    return future.result()


class SettingsCache:
    """Checks the settings of the round at hand, once for each that differs."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._plain: dict[str, Any] | None = None
        self._settings: RunSettings | None = None

    def at_hand(self, state: RunState) -> RunSettings:
        """Returns the settings of the round at hand. Raises CorruptFileError for settings that this
        version cannot read.
        """
        plain = state.settings_of(state.round_at_hand)
        if self._settings is None or plain != self._plain:
            self._settings, self._plain = self._validated(plain), plain
        return self._settings

    def _validated(self, plain: dict[str, Any]) -> RunSettings:
        try:
            return RunSettings.model_validate(plain)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors()
            )
            raise CorruptFileError(
                f"{self._run_dir.events}: settings that cannot be read: {problems}"
            ) from error

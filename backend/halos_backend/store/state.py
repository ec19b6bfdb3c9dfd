"""Folds a run's journal into its state: `apply` is pure and reads no clock.

The supervisor recovers with it, every view draws from it, `status --json` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from halos_backend.errors import ExitCode
from halos_backend.events import (
    AbortRequested,
    CheckpointPruned,
    ForkOrigin,
    GuardTripped,
    PauseRequested,
    RequestRejected,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunCreated,
    RunEvent,
    RunExtended,
    RunFailed,
    RunPaused,
    RunResumed,
    SettingsChanged,
    Stage,
    StageAdopted,
    StageDelayed,
    StageFailed,
    StageFinished,
    StageStalled,
    StageStarted,
    SupervisorStarted,
    VersionsChanged,
    WorkerReplaced,
    WorkersChosen,
)
from halos_backend.settings_json import Change, apply_changes, settings_after
from halos_backend.store.round_state import (
    RoundState,
    StageNews,
    apply_to_round,
    finds_no_room,
    finish_round,
    forgive_failures,
    reopen,
    with_round,
)

RunStatus = Literal[
    "created", "running", "pausing", "paused", "aborting", "aborted", "failed", "completed"
]
ENDED: frozenset[RunStatus] = frozenset({"aborted", "completed"})
AT_REST: frozenset[RunStatus] = frozenset({"paused", "failed", *ENDED})
"""Names the states in which nothing goes on until the owner says so, if ever."""
AT_WORK: frozenset[RunStatus] = frozenset({"running", "pausing", "aborting"})
"""Names the states in which a supervisor has something to do."""
EXIT_CODES: dict[RunStatus, ExitCode] = {
    "completed": ExitCode.COMPLETED,
    "failed": ExitCode.FAILED,
    "aborted": ExitCode.ABORTED,
}


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds all that a journal says. Before RunCreated everything is empty.

    `settings` are those the run was created with; `settings_of` applies `changes`. `failure` is the
    newest failed attempt's reason; `obstacle` says why a stage cannot start yet, or that it is
    silent. `num_rounds_seen` were there when the owner last told the run to go on. `is_crowded`:
    with these settings its programs did not fit into memory beside each other. `workers` is what
    `launch.warm_workers = "auto"` came to, None until that is known. `idle_since` is when the run
    was paused, failed or ended; it was so for `idle_s` before. The last of `rounds` may be a
    closing one, which scores the result and is none of the `num_rounds`.
    """

    run: str = ""
    schema_version: int = 0
    version: str = ""
    status: RunStatus = "created"
    created_t: float = 0.0
    updated_t: float = 0.0
    settings: dict[str, Any] = {}
    num_prompts: int = 0
    num_too_long: int = 0
    num_held_out: int = 0
    prompts_sha256: str = ""
    policy_sha256: str = ""
    checkpoint_bytes: int = 0
    first_cursor: int = 0
    forked_from: ForkOrigin | None = None
    generation: int = 0
    rounds: tuple[RoundState, ...] = ()
    pruned: tuple[str, ...] = ()
    failure: str | None = None
    reason: str | None = None
    obstacle: str | None = None
    changes: tuple[Change, ...] = ()
    versions: dict[str, str] = {}
    pause_at: Literal["round", "stage"] | None = None
    abort_when: Literal["now", "stage", "round"] | None = None
    abort_request_id: str | None = None
    num_rounds_seen: int = 0
    is_crowded: bool = False
    idle_s: float = 0.0
    idle_since: float | None = None
    workers: WorkersChosen | None = None

    def keeps_workers(self, wanted: bool | Literal["auto"]) -> bool:
        """Says whether stages stay between rounds, by what `launch.warm_workers` says."""
        if wanted == "auto":
            wanted = self.workers is not None and self.workers.is_warm
        return wanted and not self.is_crowded

    @property
    def active(self) -> tuple[tuple[int, Stage], ...]:
        """Returns the stages that run now, as (round, stage), in the order of a round."""
        return tuple(
            (round.round, stage.stage)
            for round in self.rounds[-2:]
            for stage in round.stages.values()
            if stage.status == "running"
        )

    @property
    def closing(self) -> RoundState | None:
        """Returns the round that scores the result, once it has begun."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].closing else None

    @property
    def num_rounds(self) -> int:
        """Counts the rounds that have begun."""
        return len(self.rounds) - (self.closing is not None)

    @property
    def round_at_hand(self) -> int:
        """Returns the round that is not finished yet, or else the next one."""
        if self.rounds and self.rounds[-1].finished_t is None:
            return self.rounds[-1].round
        return self.num_rounds + 1

    def settings_of(self, round: int) -> dict[str, Any]:
        """Returns the settings of a round; for one to come, as far as one knows now."""
        if round <= len(self.rounds) and not self._is_closed(round):
            return self.rounds[round - 1].settings
        return settings_after(self.settings, self.changes, round)

    def _is_closed(self, round: int) -> bool:
        """Says whether the round is a closing one that is done: another may take its place."""
        return self.rounds[round - 1].closing is not None and (
            self.rounds[round - 1].finished_t is not None
        )

    def elapsed_s(self, now: float) -> float:
        """Returns for how long the run has been at work: since its creation, less the time in which
        it was paused or failed, and none after its end.

        Time without a supervisor counts, for a stage goes on without one. An attempt of a stage is
        never paused: its elapsed time is that from its start on.
        """
        # a state from an older version does not say since when the run rests
        since = self.updated_t if self.idle_since is None else self.idle_since
        end = since if self.status in AT_REST else now
        return max(0.0, end - self.created_t - self.idle_s)

    @property
    def cursor(self) -> int:
        """Counts the prompts taken by all rounds so far, and by those that a fork begins after."""
        if not self.num_rounds:
            return self.first_cursor
        last = self.rounds[self.num_rounds - 1]
        return last.cursor + last.num_prompts

    @property
    def checkpoints(self) -> list[tuple[int, str]]:
        """Lists (round, path) of the checkpoints still on disk, oldest first."""
        gone = set(self.pruned)
        return [
            (round.round, round.checkpoint)
            for round in self.rounds
            if round.checkpoint and round.checkpoint not in gone
        ]

    @property
    def exit_code(self) -> ExitCode:
        """Returns the code that a command exits with which followed the run to here."""
        return EXIT_CODES.get(self.status, ExitCode.UNFINISHED)


def fold(events: Iterable[RunEvent], state: RunState | None = None) -> RunState:
    """Returns the state after `events`."""
    state = RunState() if state is None else state
    for event in events:
        state = apply(state, event)
    return state


def apply(state: RunState, event: RunEvent) -> RunState:
    """Returns the state after one event. It is total: an event about an unknown round changes
    nothing.
    """
    after = replace(_apply(state, event), updated_t=event.t)
    was_at_rest, is_at_rest = state.status in AT_REST, after.status in AT_REST
    if is_at_rest and not was_at_rest:
        return replace(after, idle_since=event.t)
    if was_at_rest and not is_at_rest:
        since = state.updated_t if state.idle_since is None else state.idle_since
        return replace(after, idle_s=state.idle_s + max(0.0, event.t - since), idle_since=None)
    return after


def _apply(state: RunState, event: RunEvent) -> RunState:
    match event:
        case RunCreated():
            return RunState(
                run=event.run,
                schema_version=event.schema_version,
                version=event.version,
                created_t=event.t,
                settings=event.settings,
                num_prompts=event.num_prompts,
                num_too_long=event.num_too_long,
                num_held_out=event.num_held_out,
                prompts_sha256=event.prompts_sha256,
                policy_sha256=event.policy_sha256,
                checkpoint_bytes=event.checkpoint_bytes,
                first_cursor=event.first_cursor,
                forked_from=event.forked_from,
            )
        case SupervisorStarted(generation=generation, versions=versions):
            status = "running" if state.status == "created" else state.status
            versions = versions or state.versions
            return replace(state, generation=generation, status=status, versions=versions)
        case VersionsChanged() | RequestRejected() | WorkerReplaced():
            return state
        case WorkersChosen():
            return replace(state, workers=event)
        case RoundStarted():
            return _start_round(state, event)
        case StageDelayed(reason=reason):
            return replace(state, obstacle=reason)
        case StageStalled(silent_s=silent_s, phase=phase):
            return replace(state, obstacle=f"silent for {silent_s:.0f} s while {phase}")
        case StageStarted() | StageAdopted() | StageFinished() | StageFailed():
            return _apply_to_stage(state, event)
        case RoundFinished():
            return _finish_round(state, event)
        case CheckpointPruned(path=path):
            return replace(state, pruned=(*state.pruned, path))
        case SettingsChanged():
            return _change_settings(state, event)
        case GuardTripped() | PauseRequested() | AbortRequested():
            return _begin_to_stop(state, event)
        case RunPaused(reason=reason):
            return replace(state, status="paused", reason=reason, failure=None, pause_at=None)
        case RunAborted():
            return replace(state, status="aborted", reason="aborted by its owner")
        case RunFailed(reason=reason):
            return replace(state, status="failed", reason=reason, pause_at=None)
        case RunResumed():
            return _resume(state)
        case RunExtended():
            return _resume(_change_settings(state, event))
        case RunCompleted(reason=reason):
            return replace(state, status="completed", reason=reason, pause_at=None)


def _begin_to_stop(
    state: RunState, event: GuardTripped | PauseRequested | AbortRequested
) -> RunState:
    match event:
        case AbortRequested(request_id=request_id, when=when):
            return replace(state, status="aborting", abort_request_id=request_id, abort_when=when)
        case _ if state.status not in ("running", "pausing"):
            return state
        case GuardTripped(action="abort", reason=reason):
            return replace(state, status="aborting", abort_when="now", reason=reason)
        case GuardTripped(action="pause", reason=reason):
            return replace(state, status="pausing", pause_at="stage", reason=reason)
        case PauseRequested(at=at):
            return replace(state, status="pausing", pause_at=at)
    return state


def _resume(state: RunState) -> RunState:
    """Lets the run go on; the failed attempts of the round at hand are forgiven."""
    rounds = state.rounds
    if state.closing is not None and state.closing.unscored:
        rounds = with_round(rounds, reopen(state.closing))
    if rounds and rounds[-1].finished_t is None:
        rounds = with_round(rounds, forgive_failures(rounds[-1]))
    return replace(
        state,
        status="running",
        rounds=rounds,
        reason=None,
        failure=None,
        pause_at=None,
        num_rounds_seen=state.num_rounds,
        is_crowded=False,
        workers=_open_again(state.workers),
    )


def _open_again(workers: WorkersChosen | None) -> WorkersChosen | None:
    """Forgets an answer that other settings gave, or that is old, so that it is looked
    for again.
    """
    return None if workers is None else replace(workers, is_measured=False)


def _change_settings(state: RunState, event: SettingsChanged | RunExtended) -> RunState:
    from_round = state.num_rounds + 1 if isinstance(event, RunExtended) else event.from_round
    change = Change(t=event.t, from_round=from_round, changes=event.changes, by=event.by)
    rounds = state.rounds
    if from_round == len(rounds) and rounds[-1].finished_t is None:
        settings = apply_changes(rounds[-1].settings, event.changes)
        rounds = with_round(rounds, replace(rounds[-1], settings=settings))
    return replace(
        state,
        changes=(*state.changes, change),
        rounds=rounds,
        is_crowded=False,
        workers=_open_again(state.workers),
    )


def _start_round(state: RunState, event: RoundStarted) -> RunState:
    if event.round != state.num_rounds + 1:
        return state
    begun = state.rounds[: state.num_rounds]
    # rounds with equal settings share one object: a long run holds them once
    known = begun[-1].settings if begun else state.settings
    round = RoundState(
        round=event.round,
        cursor=event.cursor,
        num_prompts=event.num_prompts,
        settings=known if known == event.settings else event.settings,
        started_t=event.t,
        closing=event.closing,
    )
    return replace(state, rounds=(*begun, round))


def _apply_to_stage(state: RunState, event: StageNews) -> RunState:
    if not 1 <= event.round <= len(state.rounds):
        return state
    failure = state.failure
    if isinstance(event, StageFailed):
        failure = failure or event.reason if event.cause == "stopped" else event.reason
    elif isinstance(event, StageStarted | StageFinished):
        failure = None
    is_aborting = state.status == "aborting"
    round = apply_to_round(state.rounds[event.round - 1], event, is_aborting=is_aborting)
    return replace(
        state,
        rounds=with_round(state.rounds, round),
        failure=failure,
        obstacle=None,
        is_crowded=state.is_crowded or finds_no_room(round, event),
    )


def _finish_round(state: RunState, event: RoundFinished) -> RunState:
    if not 1 <= event.round <= len(state.rounds):
        return state
    finished = finish_round(state.rounds[event.round - 1], event)
    return replace(state, rounds=with_round(state.rounds, finished))

"""The state of a run is the fold of its journal: `apply` is pure and reads no clock.

The supervisor recovers with it, every view draws from it, `status --json` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from halos_backend.errors import ExitCode
from halos_backend.events import (
    STAGES,
    AbortRequested,
    CheckpointPruned,
    ProcessIdentity,
    RequestRejected,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunCreated,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
    Stage,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStarted,
    SupervisorStarted,
)

RunStatus = Literal["created", "running", "paused", "aborting", "aborted", "failed", "completed"]
StageStatus = Literal["running", "finished", "failed"]

ENDED: frozenset[RunStatus] = frozenset({"aborted", "completed"})


class StageState(msgspec.Struct, frozen=True, kw_only=True):
    """The newest attempt of one stage of one round."""

    stage: Stage
    status: StageStatus
    attempt: int
    started_t: float
    process: ProcessIdentity | None = None
    elapsed_s: float | None = None
    summary: dict[str, Any] = {}
    reason: str | None = None


class RoundState(msgspec.Struct, frozen=True, kw_only=True):
    """One round: what it took, how far its stages are, what came of it."""

    round: int
    cursor: int
    num_prompts: int
    settings: dict[str, Any]
    started_t: float
    stages: dict[Stage, StageState] = {}
    finished_t: float | None = None
    checkpoint: str | None = None
    untrained: str | None = None
    metrics: dict[str, Any] = {}

    @property
    def active(self) -> StageState | None:
        """The stage that runs now."""
        return next((stage for stage in self.stages.values() if stage.status == "running"), None)


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """All that a journal says. Before RunCreated everything is empty."""

    run: str = ""
    version: str = ""
    status: RunStatus = "created"
    created_t: float = 0.0
    updated_t: float = 0.0
    settings: dict[str, Any] = {}
    num_prompts: int = 0
    num_too_long: int = 0
    prompts_sha256: str = ""
    policy_sha256: str = ""
    checkpoint_bytes: int = 0
    generation: int = 0
    rounds: tuple[RoundState, ...] = ()
    pruned: tuple[str, ...] = ()
    failure: str | None = None
    reason: str | None = None
    abort_request_id: str | None = None

    @property
    def active(self) -> frozenset[tuple[int, Stage]]:
        """The stages that run now, as (round, stage)."""
        return frozenset(
            (round.round, stage.stage)
            for round in self.rounds[-2:]
            for stage in round.stages.values()
            if stage.status == "running"
        )

    @property
    def cursor(self) -> int:
        """Prompts taken by all rounds so far."""
        return self.rounds[-1].cursor + self.rounds[-1].num_prompts if self.rounds else 0

    @property
    def checkpoints(self) -> list[tuple[int, str]]:
        """(round, path) of the checkpoints still on disk, oldest first."""
        gone = set(self.pruned)
        return [
            (round.round, round.checkpoint)
            for round in self.rounds
            if round.checkpoint and round.checkpoint not in gone
        ]

    @property
    def exit_code(self) -> ExitCode:
        """What a command that followed the run to here exits with."""
        match self.status:
            case "completed":
                return ExitCode.COMPLETED
            case "failed":
                return ExitCode.FAILED
            case "aborted":
                return ExitCode.ABORTED
            case _:
                return ExitCode.UNFINISHED


def fold(events: Iterable[RunEvent], state: RunState | None = None) -> RunState:
    """The state after `events`."""
    state = RunState() if state is None else state
    for event in events:
        state = apply(state, event)
    return state


def apply(state: RunState, event: RunEvent) -> RunState:
    """The state after one event. Total: an event about an unknown round changes nothing."""
    return replace(_apply(state, event), updated_t=event.t)


def _apply(state: RunState, event: RunEvent) -> RunState:
    match event:
        case RunCreated():
            return RunState(
                run=event.run,
                version=event.version,
                created_t=event.t,
                settings=event.settings,
                num_prompts=event.num_prompts,
                num_too_long=event.num_too_long,
                prompts_sha256=event.prompts_sha256,
                policy_sha256=event.policy_sha256,
                checkpoint_bytes=event.checkpoint_bytes,
            )
        case SupervisorStarted(generation=generation):
            status = "running" if state.status == "created" else state.status
            return replace(state, generation=generation, status=status)
        case RoundStarted():
            return _start_round(state, event)
        case StageStarted() | StageAdopted() | StageFinished() | StageFailed():
            return _apply_to_stage(state, event)
        case RoundFinished():
            return _finish_round(state, event)
        case CheckpointPruned(path=path):
            return replace(state, pruned=(*state.pruned, path))
        case AbortRequested(request_id=request_id):
            return replace(state, status="aborting", abort_request_id=request_id)
        case RequestRejected():
            return state
        case RunPaused(reason=reason):
            return replace(state, status="paused", reason=reason, failure=None)
        case RunAborted():
            return replace(state, status="aborted", reason="aborted by its owner")
        case RunFailed(reason=reason):
            return replace(state, status="failed", reason=reason)
        case RunResumed():
            return replace(state, status="running", reason=None, failure=None)
        case RunCompleted(reason=reason):
            return replace(state, status="completed", reason=reason)


def _start_round(state: RunState, event: RoundStarted) -> RunState:
    if event.round != len(state.rounds) + 1:
        return state
    # rounds with equal settings share one object: a long run holds them once
    known = state.rounds[-1].settings if state.rounds else state.settings
    round = RoundState(
        round=event.round,
        cursor=event.cursor,
        num_prompts=event.num_prompts,
        settings=known if known == event.settings else event.settings,
        started_t=event.t,
    )
    return replace(state, rounds=(*state.rounds, round))


def _apply_to_stage(
    state: RunState, event: StageStarted | StageAdopted | StageFinished | StageFailed
) -> RunState:
    if not 1 <= event.round <= len(state.rounds):
        return state
    round = state.rounds[event.round - 1]
    before = round.stages.get(event.stage)
    match event:
        case StageStarted():
            after = StageState(
                stage=event.stage,
                status="running",
                attempt=event.attempt,
                started_t=event.t,
                process=event.process,
            )
        case _ if before is None:
            return state
        case StageAdopted():
            after = replace(before, process=event.process)
        case StageFinished():
            after = replace(
                before, status="finished", elapsed_s=event.elapsed_s, summary=event.summary
            )
        case StageFailed():
            after = replace(before, status="failed", reason=event.reason)
    stages = {
        stage: after if stage == event.stage else round.stages[stage]
        for stage in STAGES
        if stage == event.stage or stage in round.stages
    }
    failure = event.reason if isinstance(event, StageFailed) else state.failure
    return replace(
        state,
        rounds=_with_round(state.rounds, replace(round, stages=stages)),
        failure=failure,
    )


def _finish_round(state: RunState, event: RoundFinished) -> RunState:
    if not 1 <= event.round <= len(state.rounds):
        return state
    round = replace(
        state.rounds[event.round - 1],
        finished_t=event.t,
        checkpoint=event.checkpoint,
        untrained=event.untrained,
        metrics=event.metrics,
    )
    return replace(state, rounds=_with_round(state.rounds, round))


def _with_round(rounds: tuple[RoundState, ...], round: RoundState) -> tuple[RoundState, ...]:
    return (*rounds[: round.round - 1], round, *rounds[round.round :])

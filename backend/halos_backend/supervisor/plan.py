"""Decides what comes next. `plan` is pure: it looks at the state and the settings, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from halos_backend.config.schema import RunSettings
from halos_backend.events import STAGES, Stage
from halos_backend.store.prompt_order import round_size
from halos_backend.store.state import RoundState, RunState
from halos_backend.supervisor.retention import Prunable, prunable


@dataclass(frozen=True)
class StartRound:
    """Take the next prompts."""

    round: int
    cursor: int
    num_prompts: int


@dataclass(frozen=True)
class StartStage:
    """Start one attempt of a stage."""

    round: int
    stage: Stage
    attempt: int


@dataclass(frozen=True)
class StopStage:
    """End a running stage now."""

    round: int
    stage: Stage


@dataclass(frozen=True)
class FinishRound:
    """All stages are done; `untrained` says why there was nothing to train on."""

    round: int
    untrained: str | None = None


@dataclass(frozen=True)
class Prune:
    """Delete what a proven successor replaces."""

    what: tuple[Prunable, ...]


@dataclass(frozen=True)
class Wait:
    """A stage runs."""


@dataclass(frozen=True)
class FinishRun:
    """The run has its result."""

    reason: str


@dataclass(frozen=True)
class FailRun:
    """The run cannot go on by itself."""

    reason: str


@dataclass(frozen=True)
class AbortRun:
    """Nothing runs any more; the owner wanted that."""


Action = (
    StartRound
    | StartStage
    | StopStage
    | FinishRound
    | Prune
    | Wait
    | FinishRun
    | FailRun
    | AbortRun
)


def plan(state: RunState, settings: RunSettings) -> tuple[Action, ...]:
    """The next actions; none when the run has ended or waits for its owner."""
    match state.status:
        case "aborting":
            return _abort(state)
        case "running":
            pass
        case _:
            return ()
    if state.active:
        return (Wait(),)
    if state.failure is not None:
        return (FailRun(state.failure),)
    if what := prunable(state, settings.loop):
        return (Prune(what),)
    if not state.rounds or state.rounds[-1].finished_t is not None:
        return (_next_round(state, settings),)
    return (_next_stage(state.rounds[-1]),)


def total_prompts(settings: RunSettings, num_prompts: int) -> int:
    """Prompts that the whole run takes at most, all rounds together; 1 or more."""
    loop = settings.loop
    limits = [num_prompts * loop.num_epochs]
    if loop.num_prompts is not None:
        limits.append(loop.num_prompts)
    if loop.num_rounds is not None:
        limits.append(loop.num_rounds * loop.prompts_per_round)
    return max(1, min(limits))


def round_sizes(settings: RunSettings, num_prompts: int) -> list[int]:
    """Prompts of each round of a run that goes to its end."""
    loop = settings.loop
    sizes: list[int] = []
    while loop.num_rounds is None or len(sizes) < loop.num_rounds:
        size = _size_at(sum(sizes), settings, num_prompts)
        if size == 0:
            break
        sizes.append(size)
    return sizes


def _abort(state: RunState) -> tuple[Action, ...]:
    if state.active:
        return tuple(StopStage(round, stage) for round, stage in sorted(state.active))
    return (AbortRun(),)


def _next_round(state: RunState, settings: RunSettings) -> Action:
    done = len(state.rounds)
    if settings.loop.num_rounds is not None and done >= settings.loop.num_rounds:
        return FinishRun(f"all {done} rounds are done")
    size = _size_at(state.cursor, settings, state.num_prompts)
    if size == 0:
        budget = settings.loop.num_prompts
        reached = budget is not None and state.cursor >= budget
        return FinishRun("the prompt budget is spent" if reached else "no prompts are left")
    return StartRound(round=done + 1, cursor=state.cursor, num_prompts=size)


def _size_at(cursor: int, settings: RunSettings, num_prompts: int) -> int:
    loop = settings.loop
    return round_size(
        cursor=cursor,
        wanted=loop.prompts_per_round,
        num_prompts=num_prompts,
        num_epochs=loop.num_epochs,
        budget=loop.num_prompts,
    )


def _next_stage(round: RoundState) -> Action:
    for stage in STAGES:
        state = round.stages.get(stage)
        if stage == "train" and state is None and (reason := _nothing_to_train_on(round)):
            return FinishRound(round.round, untrained=reason)
        if state is None:
            return StartStage(round.round, stage, attempt=1)
        if state.status == "failed":
            return StartStage(round.round, stage, attempt=state.attempt + 1)
    return FinishRound(round.round)


def _nothing_to_train_on(round: RoundState) -> str | None:
    summary = round.stages["label"].summary
    if summary["num_feedback"] > 0:
        return None
    if summary["num_completions"] == summary["num_unscored"]:
        return "no completion could be scored"
    return "no feedback is left: the rewards tell no two completions of a prompt apart"

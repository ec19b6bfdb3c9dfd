"""Decides what can be asked of a run as it stands, or says why not and what can be done instead.

It is pure. The app and the verbs ask it before they send a request, the supervisor before it grants
one. What the changed settings of a request say is left to `config.changes`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, assert_never

from halos_backend.store.requests import (
    SOONEST_FIRST,
    Abort,
    At,
    Extend,
    Pause,
    Request,
    Resume,
    Retry,
    Set,
    When,
)
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import ENDED, RunState, RunStatus


@dataclass(frozen=True)
class Standing:
    """Holds what of a run's state decides what can be asked of it; a list of many runs reads no
    more of each.

    `stage` is one that runs, or "". `is_unscored`: scoring the result came to nothing.
    `has_samples` and `has_checkpoint` say what there is to read, and to fork from.
    """

    status: RunStatus
    reason: str | None = None
    failure: str | None = None
    pause_at: At | None = None
    abort_when: When | None = None
    stage: str = ""
    is_unscored: bool = False
    num_rounds: int = 0
    round_at_hand: int = 1
    has_samples: bool = False
    has_checkpoint: bool = False


@dataclass(frozen=True)
class Refusal:
    """Says why a run cannot do what is asked; `fix` says what can be done instead, if anything."""

    reason: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.reason}; {self.fix}" if self.fix else self.reason


def refusal(
    request: Request,
    state: RunState | Standing,
    run_dir: RunDir,
    *,
    status: str = "",
) -> Refusal | None:
    """Says why the run refuses the request; None where it grants it.

    A run that is only created runs as soon as a supervisor has it. `status` is how the run is seen
    to stand where the journal cannot know (`lost`, `stalled`).
    """
    state = standing_of(state) if isinstance(state, RunState) else state
    run = f"the run {run_dir.name} is {state.status}"
    seen = f"the run {run_dir.name} is {status or state.status}"
    command = partial(command_for, run_dir)
    match request:
        case Pause():
            return _of_pause(request, state, run)
        case Resume():
            return _of_resume(state, run, run_dir, command)
        case Retry():
            return _of_retry(state, seen, command)
        case Set():
            return _of_set(request, state, run, command)
        case Extend():
            return _of_extend(state, seen, command)
        case Abort():
            return _of_abort(request, state, run)
    assert_never(request)


class StageLike(Protocol):
    """Is a stage as far as its status goes."""

    @property
    def status(self) -> str: ...


class RoundLike(Protocol):
    """Is a round as far as what can be asked of its run depends on it."""

    @property
    def round(self) -> int: ...
    @property
    def stages(self) -> Mapping[Any, StageLike]: ...
    @property
    def closing(self) -> object: ...
    @property
    def finished_t(self) -> float | None: ...
    @property
    def checkpoint(self) -> str | None: ...
    @property
    def unscored(self) -> str | None: ...


class StateLike(Protocol):
    """Is a run's state, or as much of it as a list of many runs decodes."""

    @property
    def status(self) -> RunStatus: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def failure(self) -> str | None: ...
    @property
    def pause_at(self) -> At | None: ...
    @property
    def abort_when(self) -> When | None: ...
    @property
    def rounds(self) -> Sequence[RoundLike]: ...
    @property
    def pruned(self) -> Collection[str]: ...


def standing_of(state: StateLike) -> Standing:
    """Returns what `refusal` needs of a state."""
    rounds = state.rounds
    last = rounds[-1] if rounds else None
    num_rounds = sum(round.closing is None for round in rounds)
    first = rounds[0].stages.get("sample") if rounds else None
    is_at_hand = last is not None and last.finished_t is None
    gone = set(state.pruned)
    return Standing(
        status=state.status,
        reason=state.reason,
        failure=state.failure,
        pause_at=state.pause_at,
        abort_when=state.abort_when,
        stage=_running_stage(rounds[-2:]),
        is_unscored=last is not None and last.closing is not None and bool(last.unscored),
        num_rounds=num_rounds,
        round_at_hand=last.round if last is not None and is_at_hand else num_rounds + 1,
        has_samples=len(rounds) > 1 or (first is not None and first.status == "finished"),
        has_checkpoint=any(each.checkpoint and each.checkpoint not in gone for each in rounds),
    )


def _running_stage(rounds: Sequence[RoundLike]) -> str:
    """Returns the first stage that runs, "" where none does."""
    running = (
        name
        for round in rounds
        for name, stage in round.stages.items()
        if stage.status == "running"
    )
    return next(running, "")


def round_to_change(state: RunState | Standing, from_round: int | None) -> int:
    """Returns the round that changed settings are for: by default the next, or of a failed run the
    one at hand.
    """
    if from_round is not None:
        return from_round
    return state.round_at_hand if state.status == "failed" else state.num_rounds + 1


def _of_pause(request: Pause, state: Standing, run: str) -> Refusal | None:
    match state.status:
        case "created" | "running":
            return None
        case "pausing":
            is_sooner = state.pause_at == "round" and request.at == "stage"
            return None if is_sooner else Refusal(f"{run} already")
        case "aborting":
            return Refusal(run)
        case "paused":
            return Refusal(f"{run} already; nothing runs that could pause")
        case "failed" | "aborted" | "completed":
            return Refusal(f"{run}; nothing runs that could pause")


def _of_resume(
    state: Standing, run: str, run_dir: RunDir, command: Callable[..., str]
) -> Refusal | None:
    if state.status in ("paused", "pausing", "failed"):
        return None
    if state.status not in ENDED:
        return Refusal(run)
    is_completed = state.status == "completed"
    more = f"{command('extend', '--rounds', 'N')} adds rounds; a" if is_completed else "A"
    return Refusal(
        f"{run} ({state.reason})",
        f"there is nothing to go on with. {more} new run: halos-tui run {run_dir.config}",
    )


def _of_retry(state: Standing, run: str, command: Callable[..., str]) -> Refusal | None:
    if state.status == "failed":
        return None
    if state.status == "completed" and state.is_unscored:
        return None
    if state.failure is not None:
        match state.status:
            case "running" if not state.stage:
                return None
            case "running":
                return Refusal(f"{run}: the failed stage is tried again when {state.stage} is done")
            case "pausing":
                resume = command("resume")
                return Refusal(run, f"{resume} takes that back and tries the failed stage again")
            case "aborting":
                return Refusal(run)
    return Refusal(f"{run}: no stage of it has failed")


def _of_set(request: Set, state: Standing, run: str, command: Callable[..., str]) -> Refusal | None:
    match state.status:
        case "completed":
            return Refusal(run, f"{command('extend', '--rounds', 'N')} adds rounds")
        case "aborted" | "aborting":
            return Refusal(run)
    round, next_round = request.from_round, state.num_rounds + 1
    if round is None or round >= next_round:
        return None
    if round != state.round_at_hand:
        return Refusal(f"round {round} is past; the next is {next_round}")
    if not state.stage:
        return None
    return Refusal(
        f"round {round} is under way ({state.stage} runs): pause at a stage boundary first, or"
        f" leave it to round {next_round}"
    )


def _of_extend(state: Standing, run: str, command: Callable[..., str]) -> Refusal | None:
    match state.status:
        case "completed":
            return None
        case "aborted":
            return Refusal(run)
    changes = f"{command('set', 'loop.num_rounds=N')} changes where it ends"
    return Refusal(f"{run}, not completed", changes)


def _of_abort(request: Abort, state: Standing, run: str) -> Refusal | None:
    if state.status in ENDED:
        return Refusal(f"{run} already")
    if state.status != "aborting" or state.abort_when is None:
        return None
    is_sooner = SOONEST_FIRST.index(request.when) < SOONEST_FIRST.index(state.abort_when)
    return None if is_sooner else Refusal(f"{run} already")

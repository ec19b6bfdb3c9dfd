"""Decides what comes next, and which directories of a run may go.

Everything here is pure: it reads the state and the settings, nothing else. The loop does what is
decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from halos_backend.config.consequences import judging
from halos_backend.config.schema import LoopSettings, RunSettings
from halos_backend.events import STAGES, ClosingPrompts, Stage
from halos_backend.store.prompt_order import round_size
from halos_backend.store.round_state import RoundState, StageState, retry_delay_s, waits_for_owner
from halos_backend.store.state import AT_WORK, RunState

FORKED_STATE = "initial/trainer_state"
"""Is what the first trained round of a forked run begins with, and no later one."""


@dataclass(frozen=True)
class Prunable:
    """Is a directory, relative to the run directory, that nothing needs any more."""

    round: int
    path: str


def prunable(state: RunState, loop: LoopSettings) -> tuple[Prunable, ...]:
    """Returns checkpoints that are neither among the newest nor the best, and outlived trainer
    states.

    Only finished rounds are read, so everything named here has a recorded, verified successor.
    """
    kept = state.checkpoints[-loop.keep_checkpoints :]
    keep_rounds = {round for round, _ in kept}
    if loop.keep_best and (best := best_checkpoint_round(state)) is not None:
        keep_rounds.add(best)
    found = [Prunable(round, path) for round, path in state.checkpoints if round not in keep_rounds]
    newest = max((round for round, _ in state.checkpoints), default=0)
    gone = set(state.pruned)
    if newest and state.forked_from and state.forked_from.train and FORKED_STATE not in gone:
        found.append(Prunable(0, FORKED_STATE))
    for round in state.rounds:
        if round.checkpoint and round.round < newest:
            path = str(PurePosixPath(round.checkpoint).with_name("trainer_state"))
            if path not in gone:
                found.append(Prunable(round.round, path))
    return tuple(found)


def best_checkpoint_round(state: RunState) -> int | None:
    """Returns the round whose checkpoint earned the highest mean reward, by the newest judge.

    The reward of round n's samples is that of the policy of the last trained round before n. What
    held-out prompts earn says nothing beside what the others do. A reward model samples nothing.
    """
    best: tuple[float, int] | None = None
    policy_round: int | None = None
    comparable = [round for round in state.rounds if _is_comparable(round)]
    judge = _judge(comparable[-1]) if comparable else None
    for round in state.rounds:
        reward = reward_mean(round) if _is_comparable(round) and _judge(round) == judge else None
        if policy_round is not None and reward is not None and (best is None or reward > best[0]):
            best = (reward, policy_round)
        if round.checkpoint is not None and not _trains_reward_model(round):
            policy_round = round.round
    return None if best is None else best[1]


def _is_comparable(round: RoundState) -> bool:
    return reward_mean(round) is not None and round.closing != "held_out"


def _judge(round: RoundState) -> object:
    return judging(round.settings["label"]["judge"])


def _trains_reward_model(round: RoundState) -> bool:
    return bool(round.settings["train"]["loss"]["kind"] == "bradley_terry")


def reward_mean(round: RoundState) -> float | None:
    """Returns the mean reward of the round's completions, once they are labelled."""
    return round.label_summary.reward_mean


@dataclass(frozen=True)
class StartRound:
    """Takes the next prompts. A `closing` round scores the run's result; see
    events.RoundStarted.
    """

    round: int
    cursor: int
    num_prompts: int
    closing: ClosingPrompts | None = None


@dataclass(frozen=True)
class StartStage:
    """Starts one attempt of a stage."""

    round: int
    stage: Stage
    attempt: int


@dataclass(frozen=True)
class StopStage:
    """Ends a running stage now."""

    round: int
    stage: Stage
    reason: str


@dataclass(frozen=True)
class FinishRound:
    """Ends a round all of whose stages are done.

    `untrained` says why there was nothing to train on, `unscored` why a closing round ends without
    a score.
    """

    round: int
    untrained: str | None = None
    unscored: str | None = None


@dataclass(frozen=True)
class Prune:
    """Deletes what a proven successor replaces."""

    what: tuple[Prunable, ...]


@dataclass(frozen=True)
class Wait:
    """Waits: a stage runs, or a failed one is tried again at `until_t` (Unix seconds)."""

    until_t: float | None = None


@dataclass(frozen=True)
class PauseRun:
    """Pauses the run: the boundary is reached at which it was to stop for a while."""

    reason: str


@dataclass(frozen=True)
class FinishRun:
    """Completes the run: it has its result."""

    reason: str


@dataclass(frozen=True)
class FailRun:
    """Fails the run: it cannot go on by itself."""

    reason: str


@dataclass(frozen=True)
class AbortRun:
    """Aborts the run: nothing runs any more, and the owner wanted that."""


Ending = PauseRun | FinishRun | FailRun | AbortRun
Action = StartRound | StartStage | StopStage | FinishRound | Prune | Wait | Ending

SCORING_STAGES: tuple[Stage, ...] = ("sample", "label")


def plan(state: RunState, settings: RunSettings, now: float) -> tuple[Action, ...]:
    """Returns the next actions; none when the run has ended or waits for its owner.

    `settings` are those of the round at hand, `now` is in Unix seconds.
    """
    if state.status not in AT_WORK:
        return ()
    if state.status == "aborting" and state.abort_when == "now":
        return _abort_now(state)
    if state.active:
        return (_beside(state, settings),)
    if what := prunable(state, settings.loop):
        return (Prune(what),)
    return (_at_boundary(_next(state, settings, now), state, settings),)


def _next(state: RunState, settings: RunSettings, now: float) -> Action:
    """Returns what follows while nothing runs, whatever its owner wants."""
    at_hand = state.rounds[-1] if state.rounds and state.rounds[-1].finished_t is None else None
    if at_hand is not None and at_hand.closing is None:
        return _next_stage(at_hand, settings, now)
    action = _next_round(state, settings)
    if not isinstance(action, FinishRun):
        return action  # also where rounds were added while the result was scored
    if at_hand is not None:
        return _next_scoring(at_hand, settings, now)
    return _close(action, state, settings)


def round_sizes(settings: RunSettings, num_prompts: int) -> list[int]:
    """Returns the prompts of each round of a run that goes to its end."""
    loop = settings.loop
    sizes: list[int] = []
    while loop.num_rounds is None or len(sizes) < loop.num_rounds:
        size = _size_at(sum(sizes), settings, num_prompts)
        if size == 0:
            break
        sizes.append(size)
    return sizes


def _abort_now(state: RunState) -> tuple[Action, ...]:
    if state.active:
        return tuple(StopStage(round, stage, "aborted") for round, stage in state.active)
    return (AbortRun(),)


def _beside(state: RunState, settings: RunSettings) -> Action:
    """Decides what to do while a stage runs: with `loop.overlap`, label what is sampled.

    A label stage ends with the sample attempt that it follows. One that fails by itself is tried
    again when sampling is done. Where there was no memory for both, there is none again.
    """
    round = state.rounds[-1]
    sample, label = round.stages.get("sample"), round.stages.get("label")
    if label is not None and label.status == "running":
        if sample is not None and sample.status == "failed":
            return StopStage(round.round, "label", "the sampling that it followed has failed")
        return Wait()
    is_sampling = sample is not None and sample.status == "running"
    may_begin = is_sampling and label is None and not _stops_at_stage(state)
    if settings.loop.overlap and may_begin and not state.is_crowded:
        return StartStage(round.round, "label", attempt=1)
    return Wait()


def _stops_at_stage(state: RunState) -> bool:
    at = state.pause_at if state.status == "pausing" else state.abort_when
    return state.status in ("pausing", "aborting") and at == "stage"


def _at_boundary(action: Action, state: RunState, settings: RunSettings) -> Action:
    """Returns the action, or the stop that its owner wanted before such an action."""
    begins_round = isinstance(action, StartRound)
    begins_stage = isinstance(action, StartRound | StartStage | Wait)
    match state.status:
        case "aborting" if isinstance(action, FinishRun | FailRun):
            return AbortRun()
        case "aborting" if begins_round or (begins_stage and state.abort_when == "stage"):
            return AbortRun()
        case "pausing" if begins_round or (begins_stage and state.pause_at == "stage"):
            return PauseRun(state.reason or f"by its owner, {_place(state)}")
        case "running" if isinstance(action, StartRound) and settings.loop.pause_after_each_round:
            is_seen = state.num_rounds <= state.num_rounds_seen
            if not is_seen and action.closing is None:
                return PauseRun(f"{_place(state)}, as loop.pause_after_each_round says")
    return action


def _place(state: RunState) -> str:
    if not state.rounds:
        return "before the first round"
    round = state.rounds[-1]
    if round.closing is not None:
        return "while it scored the final policy"
    return f"{'in' if round.finished_t is None else 'after'} round {round.round}"


def _next_round(state: RunState, settings: RunSettings) -> StartRound | FinishRun:
    done = state.num_rounds
    if settings.loop.num_rounds is not None and done >= settings.loop.num_rounds:
        return FinishRun(f"all {done} rounds are done")
    size = _size_at(state.cursor, settings, state.num_prompts)
    if size == 0:
        budget = settings.loop.num_prompts
        reached = budget is not None and state.cursor >= budget
        return FinishRun("the prompt budget is spent" if reached else "no prompts are left")
    return StartRound(round=done + 1, cursor=state.cursor, num_prompts=size)


def _close(finish: FinishRun, state: RunState, settings: RunSettings) -> Action:
    """Returns the end of the run, or what is to be done before it: score its result, once."""
    if state.closing is None:
        return closing_round(state, settings) or finish
    if state.closing.unscored:
        return FinishRun(
            f"{finish.reason}; the final policy has no score: {state.closing.unscored}"
        )
    return finish


def closing_round(state: RunState, settings: RunSettings) -> StartRound | None:
    """Returns the round that scores the last policy; None where `loop.score_final` wants none."""
    loop = settings.loop
    is_trained = any(round.checkpoint for round in state.rounds)
    if loop.score_final is False or not is_trained or settings.train.loss.kind == "bradley_terry":
        return None
    number = state.num_rounds + 1
    if state.num_held_out:
        return StartRound(number, 0, state.num_held_out, closing="held_out")
    size = scoring_size(settings, cursor=state.cursor, num_prompts=state.num_prompts)
    return StartRound(number, state.cursor, size, closing="next") if size else None


def scoring_size(settings: RunSettings, *, cursor: int, num_prompts: int) -> int:
    """Returns how many of the run's prompts the last policy is scored on.

    It is at most a round's, of those that no round has taken, whatever the budget; with
    `loop.score_final = true` it takes any, rather than none.
    """
    if cursor >= num_prompts and not settings.loop.score_final:
        return 0
    return round_size(
        cursor=cursor,
        wanted=settings.loop.prompts_per_round,
        num_prompts=num_prompts,
        num_epochs=cursor // num_prompts + 1,
        budget=None,
    )


def _size_at(cursor: int, settings: RunSettings, num_prompts: int) -> int:
    loop = settings.loop
    return round_size(
        cursor=cursor,
        wanted=loop.prompts_per_round,
        num_prompts=num_prompts,
        num_epochs=loop.num_epochs,
        budget=loop.num_prompts,
    )


def _next_stage(round: RoundState, settings: RunSettings, now: float) -> Action:
    for name in STAGES:
        stage = round.stages.get(name)
        if name == "train" and stage is None and (reason := _nothing_to_train_on(round)):
            return FinishRound(round.round, untrained=reason)
        if stage is None:
            return StartStage(round.round, name, attempt=1)
        if stage.status == "failed":
            return _after_failure(round.round, stage, settings, now)
    return FinishRound(round.round, untrained=round.train_summary.untrained)


def _next_scoring(round: RoundState, settings: RunSettings, now: float) -> Action:
    """Decides what a closing round still needs; it ends without a score rather than failing the
    run.
    """
    for name in SCORING_STAGES:
        stage = round.stages.get(name)
        if stage is None:
            return StartStage(round.round, name, attempt=1)
        if stage.status == "failed":
            action = _after_failure(round.round, stage, settings, now)
            if isinstance(action, FailRun):
                return FinishRound(round.round, unscored=f"{name}: {action.reason}")
            return action
    return FinishRound(round.round)


def _after_failure(round: int, stage: StageState, settings: RunSettings, now: float) -> Action:
    again = StartStage(round, stage.stage, attempt=stage.attempt + 1)
    if stage.failed_t is None:
        return again  # its owner told the run to go on
    reason = stage.reason or "it failed"
    if stage.cause == "over_budget":
        return PauseRun(reason)
    if waits_for_owner(stage):
        return FailRun(reason)
    if stage.num_barren >= settings.loop.max_attempts:
        return FailRun(f"{reason} ({stage.num_barren} attempts without progress)")
    due_t = stage.failed_t + retry_delay_s(stage.num_barren)
    return Wait(until_t=due_t) if now < due_t else again


def _nothing_to_train_on(round: RoundState) -> str | None:
    label = round.label_summary
    if label.num_feedback:
        return None
    if label.num_completions == label.num_unscored:
        return "no completion could be scored"
    if label.num_completions == (label.num_cut_off_dropped or 0):
        return "all completions were cut off, and label.cut_off = 'drop' leaves them out"
    return "no feedback is left: the rewards tell no two completions of a prompt apart"

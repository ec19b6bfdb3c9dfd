"""Decides which directories of a run may go. Pure; deleting is the loop's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from halos_backend.config.judges import judging
from halos_backend.config.schema import LoopSettings
from halos_backend.store.round_state import RoundState
from halos_backend.store.state import RunState

FORKED_STATE = "initial/trainer_state"
"""What the first trained round of a forked run begins with, and nobody after it."""


@dataclass(frozen=True)
class Prunable:
    """A directory, relative to the run directory, that nothing needs any more."""

    round: int
    path: str


def prunable(state: RunState, loop: LoopSettings) -> tuple[Prunable, ...]:
    """Checkpoints that are neither among the newest nor the best, and outlived trainer states.

    Only finished rounds are looked at, so everything named here has a recorded, verified successor.
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
    """The round whose checkpoint earned the highest mean reward, by the newest judge.

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
    """Mean reward of the round's completions, once they are labelled."""
    label = round.stages.get("label")
    return None if label is None else label.summary.get("reward_mean")

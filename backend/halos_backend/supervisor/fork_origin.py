"""Finds the round that a run is to be forked from, or says why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from halos_backend.errors import UsageError
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState


@dataclass(frozen=True)
class Origin:
    """A finished round of a run, whose checkpoint is there."""

    run_dir: RunDir
    state: RunState
    round: RoundState

    @property
    def attempt(self) -> AttemptDir:
        """The train attempt that left the checkpoint."""
        number = self.round.stages["train"].attempt
        return self.run_dir.attempt(self.round.round, "train", number)

    @property
    def settings(self) -> dict[str, Any]:
        """Those that held, or would have held, for the round after it."""
        return self.state.settings_of(self.round.round + 1)

    @property
    def next_cursor(self) -> int:
        """Prompts taken up to the end of the round."""
        return self.round.cursor + self.round.num_prompts


def find_origin(run_dir: RunDir, state: RunState, number: int) -> Origin:
    """Raises UsageError with the reason and the rounds that can be forked."""
    reason = _why_not(state, number)
    if reason is not None:
        raise UsageError(f"{reason}; {_what_can(state)}")
    origin = Origin(run_dir, state, state.rounds[number - 1])
    if not origin.attempt.checkpoint.is_dir():
        raise UsageError(f"{origin.attempt.checkpoint} is gone; {_what_can(state)}")
    if origin.round.settings["train"]["loss"]["kind"] == "bradley_terry":
        raise UsageError(
            f"the run {state.run} trains a reward model, not a policy: to go on with it,"
            " start a new run whose policy.path is that checkpoint"
        )
    return origin


def _why_not(state: RunState, number: int) -> str | None:
    if not 1 <= number <= state.num_rounds:
        return f"the run {state.run} has no round {number}"
    round = state.rounds[number - 1]
    if round.finished_t is None:
        return f"round {number} of {state.run} is not finished"
    if round.checkpoint is None:
        return f"round {number} of {state.run} left the policy as it was ({round.untrained})"
    if round.checkpoint in state.pruned:
        return (
            f"the checkpoint of round {number} of {state.run} was deleted once later ones were"
            " proven (loop.keep_checkpoints)"
        )
    return None


def _what_can(state: RunState) -> str:
    rounds = [str(number) for number, _ in state.checkpoints]
    return f"can be forked: {', '.join(rounds)}" if rounds else "none of its rounds can be forked"

"""Decides whether a round has its result, and what of it a table of rounds shows."""

from __future__ import annotations

from typing import Any

from halos_backend import clock
from halos_backend.events import Stage, StageFailed
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir

TABLE_METRICS: dict[Stage, tuple[str, ...]] = {
    "sample": ("num_completions", "length_mean", "truncated_frac", "unique_frac"),
    "label": ("reward_mean", "reward_std", "num_unscored", "num_feedback"),
    "train": ("loss_last", "kl_initial", "implicit_reward_accuracy", "num_steps"),
}


def find_checkpoint_damage(attempt: AttemptDir) -> str | None:
    """Why a finished train attempt is no result after all, or None."""
    manifest = read_done(attempt.path)
    return "DONE cannot be read" if manifest is None else find_damage(attempt.path, manifest)


def damaged_checkpoint(round: RoundState, damage: str) -> StageFailed:
    """The train attempt failed after all, so that resume trains again."""
    return StageFailed(
        t=clock.now(),
        round=round.round,
        stage="train",
        attempt=round.stages["train"].attempt,
        reason=f"the checkpoint of round {round.round} is damaged: {damage}",
        exit_code=None,
        last_lines=[],
        cause="damaged",
    )


def round_metrics(round: RoundState) -> dict[str, Any]:
    """The few numbers that a table of rounds shows."""
    return {
        key: stage.summary[key]
        for name, stage in round.stages.items()
        for key in TABLE_METRICS[name]
        if key in stage.summary
    }

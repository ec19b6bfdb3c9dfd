"""Begins rounds, decides whether they have their result, and deletes what a proven result replaces.

It also makes the few numbers of a round that a table shows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from halos_backend import atomic, clock
from halos_backend.events import (
    CheckpointPruned,
    RoundFinished,
    RoundStarted,
    RunEvent,
    Stage,
    StageFailed,
)
from halos_backend.store.manifest import find_damage, read_done
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.plan import FinishRound, Prunable, StartRound

RunSlow = Callable[[Callable[[], Any]], Any]
"""Does something that takes long while requests go on being answered."""

TABLE_METRICS: dict[Stage, tuple[str, ...]] = {
    "sample": ("num_completions", "length_mean", "truncated_frac", "unique_frac"),
    "label": ("reward_mean", "reward_std", "num_unscored", "num_feedback"),
    "train": ("loss_last", "kl_initial", "implicit_reward_accuracy", "num_steps"),
}


class Rounds:
    """Begins and ends the rounds of one run; every outcome goes through `record`."""

    def __init__(
        self, run_dir: RunDir, record: Callable[[RunEvent], None], *, run_slow: RunSlow
    ) -> None:
        self._run_dir = run_dir
        self._record = record
        self._run_slow = run_slow

    def begin(self, action: StartRound, settings: dict[str, Any]) -> None:
        """Begins a round; `settings` are the round's, as plain JSON."""
        self.write_settings(action.round, settings)
        self._record(
            RoundStarted(
                t=clock.now(),
                round=action.round,
                cursor=action.cursor,
                num_prompts=action.num_prompts,
                settings=settings,
                closing=action.closing,
            )
        )

    def write_settings(self, round: int, settings: dict[str, Any]) -> None:
        path = self._run_dir.round_settings(round)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write_bytes(path, msgspec.json.format(msgspec.json.encode(settings)) + b"\n")

    def finish(self, action: FinishRound, state: RunState) -> None:
        """Makes the round's checkpoint the run's result, unless it is damaged after all.

        A closing round has none.
        """
        round = state.rounds[action.round - 1]
        checkpoint: str | None = None
        if round.closing is None and not action.untrained:
            attempt = self._run_dir.attempt(round.round, "train", round.stages["train"].attempt)
            if (damage := find_checkpoint_damage(attempt)) is not None:
                self._record(damaged_checkpoint(round, damage))
                return
            self.delete(*leftovers(self._run_dir, round))
            checkpoint = self._run_dir.relative(attempt.checkpoint)
            atomic.replace_symlink(self._run_dir.final, checkpoint)
        self._record(
            RoundFinished(
                t=clock.now(),
                round=round.round,
                checkpoint=checkpoint,
                metrics=round_metrics(round),
                untrained=action.untrained,
                unscored=action.unscored,
            )
        )

    def delete(self, *what: Prunable) -> None:
        """Deletes what a proven successor replaces."""
        for found in what:
            freed = self._run_slow(partial(delete_tree, self._run_dir.path / found.path))
            self._record(
                CheckpointPruned(
                    t=clock.now(), round=found.round, path=found.path, freed_bytes=freed
                )
            )


def find_checkpoint_damage(attempt: AttemptDir) -> str | None:
    """Says why a finished train attempt is no result after all; None where it is."""
    manifest = read_done(attempt.path)
    return "DONE cannot be read" if manifest is None else find_damage(attempt.path, manifest)


def damaged_checkpoint(round: RoundState, damage: str) -> StageFailed:
    """Says that the train attempt failed after all, so that resume trains again."""
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
    """Returns the few numbers that a table of rounds shows."""
    return {
        key: figures[key]
        for name, stage in round.stages.items()
        for figures in [stage.figures]
        for key in TABLE_METRICS[name]
        if key in figures
    }


def leftovers(run_dir: RunDir, round: RoundState) -> Iterator[Prunable]:
    """Yields mid-round states, and weights of failed attempts; the round's checkpoint is proven.

    What says why an attempt failed (job, events, log) is small and stays.
    """
    last = round.stages["train"].attempt
    for number in range(1, last + 1):
        attempt = run_dir.attempt(round.round, "train", number)
        weights = () if number == last else (attempt.checkpoint, attempt.trainer_state)
        for path in (attempt.partial_state, *weights):
            if path.exists():
                yield Prunable(round.round, run_dir.relative(path))


def delete_tree(path: Path) -> int:
    """Deletes a directory, if it is there; returns the bytes that this frees."""
    freed = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if path.exists():
        shutil.rmtree(path)
    return freed

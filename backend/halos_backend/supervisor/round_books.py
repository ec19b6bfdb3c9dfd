"""Keeps the books of rounds: begins them, decides whether they have their result, clears up."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from halos_backend import atomic, clock
from halos_backend.events import CheckpointPruned, RoundFinished, RoundStarted, RunEvent
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.leftovers import delete_tree, leftovers
from halos_backend.supervisor.plan import FinishRound, StartRound
from halos_backend.supervisor.retention import Prunable
from halos_backend.supervisor.round_result import (
    damaged_checkpoint,
    find_checkpoint_damage,
    round_metrics,
)

RunSlow = Callable[[Callable[[], Any]], Any]
"""Does something that takes long while requests go on being answered."""


class RoundBooks:
    """The rounds of one run; every outcome goes through `record`."""

    def __init__(
        self, run_dir: RunDir, record: Callable[[RunEvent], None], *, run_slow: RunSlow
    ) -> None:
        self._run_dir = run_dir
        self._record = record
        self._run_slow = run_slow

    def begin(self, action: StartRound, settings: dict[str, Any]) -> None:
        """`settings` are the round's, as plain JSON."""
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
        """Make the round's checkpoint the run's result, unless it is damaged after all.

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
        """Delete what a proven successor replaces."""
        for found in what:
            freed = self._run_slow(partial(delete_tree, self._run_dir.path / found.path))
            self._record(
                CheckpointPruned(
                    t=clock.now(), round=found.round, path=found.path, freed_bytes=freed
                )
            )

"""What a round leaves that nothing needs once its result is proven, and deleting it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor.retention import Prunable


def leftovers(run_dir: RunDir, round: RoundState) -> Iterator[Prunable]:
    """Mid-round states, and weights of failed attempts; the round's checkpoint is proven.

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
    """Delete a directory, if it is there; returns the bytes that this frees."""
    freed = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if path.exists():
        shutil.rmtree(path)
    return freed

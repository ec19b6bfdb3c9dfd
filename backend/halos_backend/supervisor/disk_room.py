"""Measures what the forecast of a run's disk needs: free space, and what a round leaves."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import msgspec

from halos_backend.records import BAD_JSON
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

LEAST_BYTES_PER_PARAMETER = 2
"""Of any type that a checkpoint can have."""


@dataclass(frozen=True)
class DiskRoom:
    """A look at the disk. `last_round_bytes` are the newest round's, 0 before the first."""

    free_bytes: int
    num_parameters: int
    last_round_bytes: int = 0


class _Prepared(msgspec.Struct):
    num_parameters: int


def measure_disk(run_dir: RunDir, state: RunState) -> DiskRoom:
    """Raises OSError for a disk that does not answer."""
    return DiskRoom(
        free_bytes=shutil.disk_usage(run_dir.path).free,
        num_parameters=_num_parameters(run_dir, state),
        last_round_bytes=_tree_bytes(run_dir, state.num_rounds) if state.num_rounds else 0,
    )


def _num_parameters(run_dir: RunDir, state: RunState) -> int:
    """As the prepare stage counted them, else the most that the checkpoint's bytes can be."""
    try:
        return msgspec.json.decode(run_dir.prepared.read_bytes(), type=_Prepared).num_parameters
    except (OSError, *BAD_JSON):
        return state.checkpoint_bytes // LEAST_BYTES_PER_PARAMETER


def _tree_bytes(run_dir: RunDir, round: int) -> int:
    return sum(path.lstat().st_size for path in run_dir.round(round).rglob("*") if path.is_file())

"""The trainer's state in mid-round, from which a later attempt goes on bit for bit.

`partial_state/step_000050/` is written beside, flushed and renamed, then the one before is removed:
there is a whole one at every moment. Random numbers are not in it: each step seeds its own.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from halos_backend import atomic
from halos_backend.errors import StageError
from halos_backend.stages.train.ranks import Ranks
from halos_backend.stages.train.sharded_files import read_parts, write_parts
from halos_backend.stages.train.tensor_file import write_tensors
from halos_backend.stages.train.trainer_state import read_tensors
from halos_backend.store.job import Job
from halos_backend.store.run_dir import AttemptDir

PREFIX = "step_"
HEADER = "state.json"
TENSORS = ("weights", "optimizer", "reference")


class PartialHeader(msgspec.Struct, frozen=True):
    """`history` are the metrics of the steps done; `digest` says of what job."""

    step: int
    digest: str
    history: list[dict[str, float]]


@dataclass(frozen=True)
class PartialState:
    """Weights and moments after `step` steps, on the CPU."""

    step: int
    history: list[dict[str, float]]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    reference: dict[str, Tensor]


def job_digest(job: Job) -> str:
    """Equal for attempts of one round that would train the same."""
    settings = [job.settings[table] for table in ("policy", "train")]
    layout = (job.num_processes, job.settings["launch"].get("sharding"))
    same: tuple[Any, ...] = (job.round, job.seed, settings, job.inputs, layout)
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()


def write_partial_state(
    directory: AttemptDir,
    header: PartialHeader,
    tensors: Mapping[str, Mapping[str, Tensor]],
    *,
    ranks: Ranks | None = None,
) -> None:
    """Replace the attempt's state by a newer one. `tensors` are by the names in TENSORS.

    Sharded ones are written by all `ranks`, each its own part, and every rank must call it.
    """
    root = directory.partial_state
    target = root / f"{PREFIX}{header.step:06d}"
    temporary = root / f".{target.name}.tmp"
    if ranks is None:
        _make_empty(temporary)
        for name in TENSORS:
            write_tensors(temporary / f"{name}.safetensors", tensors[name])
        _complete(temporary, target, header)
        return
    if ranks.rank == 0:
        _make_empty(temporary)
    ranks.wait()
    write_parts(temporary, tensors)
    if ranks.rank == 0:
        _complete(temporary, target, header)


def _make_empty(temporary: Path) -> None:
    temporary.parent.mkdir(exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()


def _complete(temporary: Path, target: Path, header: PartialHeader) -> None:
    root = target.parent
    (temporary / HEADER).write_bytes(msgspec.json.encode(header))
    for file in temporary.iterdir():
        atomic.fsync_file(file)
    atomic.fsync_dir(temporary)
    temporary.rename(target)
    atomic.fsync_dir(root)
    for older in root.glob(f"{PREFIX}*"):
        if older != target:
            doomed = older.rename(root / f".{older.name}.tmp")  # half deleted it would look damaged
            shutil.rmtree(doomed)


def find_partial_state(
    attempts: Sequence[AttemptDir],
    job: Job,
    *,
    warn: Callable[[str], None],
    sharded_weights: Mapping[str, Tensor] | None = None,
) -> PartialState | None:
    """The most advanced state that earlier attempts of the same job left, if any.

    `sharded_weights` are of the shape of what each rank reads its part of; every rank must call it.

    One that cannot be read is no reason not to train: the round then starts further back.
    """
    digest = job_digest(job)
    headers = {}
    for path in (found for a in attempts for found in a.partial_state.glob(f"{PREFIX}*")):
        try:
            header = msgspec.json.decode((path / HEADER).read_bytes(), type=PartialHeader)
        except (OSError, msgspec.DecodeError) as error:
            warn(f"{path}, left by an earlier attempt, is unreadable and passed over: {error}")
            continue
        if header.digest == digest:
            headers[path] = header
    for path in sorted(headers, key=lambda path: headers[path].step, reverse=True):
        try:
            if sharded_weights is None:
                tensors = [read_tensors(path / f"{name}.safetensors") for name in TENSORS]
            else:
                tensors = [*read_parts(path, sharded_weights), {}]
        except StageError as error:
            warn(f"{error}; that state of an earlier attempt is passed over")
            continue
        return PartialState(headers[path].step, headers[path].history, *tensors)
    return None

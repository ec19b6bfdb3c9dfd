"""The trainer's state in mid-round, from which a later attempt goes on bit for bit.

`partial_state/step_000050/` is written beside, flushed and renamed, then the one before is removed:
there is a whole one at every moment. Random numbers are not in it: each step seeds its own.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from torch import Tensor

from halos_backend import atomic
from halos_backend.errors import StageError
from halos_backend.stages.train.trainer_state import read_tensors, write_tensors
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
    same: tuple[Any, ...] = (job.round, job.seed, settings, job.inputs, job.num_processes)
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()


def write_partial_state(
    directory: AttemptDir, header: PartialHeader, tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Replace the attempt's state by a newer one. `tensors` are by the names in TENSORS."""
    root = directory.partial_state
    root.mkdir(exist_ok=True)
    target = root / f"{PREFIX}{header.step:06d}"
    temporary = root / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name in TENSORS:
        write_tensors(temporary / f"{name}.safetensors", tensors[name])
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
    attempts: Sequence[AttemptDir], job: Job, *, warn: Callable[[str], None]
) -> PartialState | None:
    """The most advanced state that earlier attempts of the same job left, if any.

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
            tensors = [read_tensors(path / f"{name}.safetensors") for name in TENSORS]
        except StageError as error:
            warn(f"{error}; that state of an earlier attempt is passed over")
            continue
        return PartialState(headers[path].step, headers[path].history, *tensors)
    return None

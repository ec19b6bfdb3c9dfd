"""Owns the trainer's state in mid-round, from which a later attempt goes on bit for bit.

`partial_state/step_000050/` is written beside, flushed and renamed, then the one before is removed:
there is a whole one at every moment. Random numbers are not in it: each step seeds its own. A
thread writes states from copies, while training goes on. Weights and moments that the ranks hold
parts of are in torch's distributed checkpoints.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil
import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from halos_backend import atomic
from halos_backend.errors import StageError
from halos_backend.stages.train.optimizer import MOMENTS, Moments
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.tensor_file import write_tensors
from halos_backend.stages.train.trainer_state import read_tensors
from halos_backend.store.job import Job
from halos_backend.store.run_dir import AttemptDir
from halos_backend.telemetry.host import MemoryCgroup

PREFIX = "step_"
HEADER = "state.json"
TENSORS = ("weights", "optimizer", "reference")

ROOM_PER_BYTE = 2
"""Is how many bytes must be free for each byte copied: the steps meanwhile need theirs."""


class PartialHeader(msgspec.Struct, frozen=True):
    """Says what a state is of: `history` are the metrics of the steps done; `digest` says of what
    job.
    """

    step: int
    digest: str
    history: list[dict[str, float]]


@dataclass(frozen=True)
class PartialState:
    """Holds weights and moments after `step` steps, on the CPU."""

    step: int
    history: list[dict[str, float]]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    reference: dict[str, Tensor]


def job_digest(job: Job) -> str:
    """Digests a job; it is equal for attempts of one round that would train the same."""
    settings = [job.settings[table] for table in ("policy", "train")]
    layout = (job.num_processes, job.settings["launch"].get("sharding"))
    same: tuple[Any, ...] = (job.round, job.seed, settings, job.inputs, layout)
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()


def write_partial_state(
    directory: AttemptDir,
    header: PartialHeader,
    tensors: Mapping[str, Mapping[str, Tensor]],
    *,
    ranks: TrainRanks | None = None,
) -> None:
    """Replaces the attempt's state by a newer one. `tensors` are by the names in TENSORS.

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
    """Returns the most advanced state that earlier attempts of the same job left, if any.

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


class StateWriter:
    """Does one write at a time. What it raises is raised where training comes by next.

    As a context manager it ends with no write under way.
    """

    def __init__(self, directory: AttemptDir) -> None:
        self._directory = directory
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="partial-state")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for the last write. Raises OSError for it, unless training has failed by itself."""
        self._pool.shutdown()
        if error is None:
            self._wait()

    def check(self) -> None:
        """Raises OSError if the write has failed; it does not wait for it."""
        if self._writing is not None and self._writing.done():
            self._wait()

    def write(self, header: PartialHeader, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replaces the attempt's state by this one, once the write before has ended.

        It returns when the tensors are copied and may change; where the host has no room for
        copies, when they are written. Raises OSError, for the write before too.
        """
        self._wait()
        if not has_room(tensors):
            write_partial_state(self._directory, header, tensors)
            return
        then = PartialHeader(header.step, header.digest, list(header.history))
        copies = {name: _copied(held) for name, held in tensors.items()}
        self._writing = self._pool.submit(write_partial_state, self._directory, then, copies)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def has_room(tensors: Mapping[str, Mapping[str, Tensor]]) -> bool:
    """Says whether copies of all tensors fit into the memory that host and cgroup have left."""
    num_bytes = sum(tensor.nbytes for held in tensors.values() for tensor in held.values())
    available = psutil.virtual_memory().available
    use = MemoryCgroup().use()
    if use is not None:
        available = min(available, use.limit - use.used)
    return ROOM_PER_BYTE * num_bytes <= available


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies tensors to host memory, wherever they are; the values are those of now."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def write_parts(directory: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes each rank's part of the tensors; every rank must call it, and it returns together."""
    state = {name: {k: t.detach() for k, t in held.items()} for name, held in tensors.items()}
    save(state, checkpoint_id=directory)


def read_parts(directory: Path, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Moments]:
    """Reads this rank's part of the weights and their moments; every rank must call it.

    `weights` give names, shapes and parts. Raises StageError on all ranks when a part is unreadable
    on one.
    """
    read = {name: torch.empty_like(weight.detach()) for name, weight in weights.items()}
    moments = {
        f"{moment}.{name}": torch.zeros(())
        if moment == "step"
        else torch.empty_like(weight.detach())
        for name, weight in weights.items()
        for moment in MOMENTS
    }
    try:
        load({"weights": read, "optimizer": moments}, checkpoint_id=directory)
    except (CheckpointException, OSError) as error:
        raise StageError(f"{directory}: {str(error).splitlines()[0]}") from error
    return read, moments

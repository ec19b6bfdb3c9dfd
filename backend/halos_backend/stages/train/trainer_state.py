"""Owns what one round's trainer leaves to the next, in safetensors and JSON.

state.json             what was trained, how; who may take what from here
master.safetensors     fp32 weights, where the checkpoint's dtype is lower
adapter.safetensors    fp32 LoRA weights, instead
adapter/               the same in peft's format, for samplers that hold the initial policy
base.safetensors       fp32 weights under the adapters, where they are not the initial policy's
optimizer.safetensors  AdamW's moments, where they are to be carried
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from halos_backend import SCHEMA_VERSION
from halos_backend.config.consequences import AdapterKey, adapter_key
from halos_backend.config.schema import TrainSettings
from halos_backend.errors import StageError
from halos_backend.stages.train.tensor_file import write_tensors

HEADER = "state.json"
MASTER = "master"
ADAPTER = "adapter"
BASE = "base"
OPTIMIZER = "optimizer"


class Header(msgspec.Struct, frozen=True):
    """Says what was trained. `adapter` is what must be equal for LoRA weights to fit,
    None without.
    """

    loss: str
    optimizer: str
    adapter: AdapterKey | None
    schema_version: int = SCHEMA_VERSION

    @property
    def is_classifier(self) -> bool:
        return self.loss == "bradley_terry"


@dataclass(frozen=True)
class TrainerState:
    """Is an earlier round's trainer state on disk."""

    path: Path
    header: Header

    def tensors(self, name: str) -> dict[str, Tensor] | None:
        """Returns the tensors of that file on the CPU, None where it was not written."""
        file = self.path / f"{name}.safetensors"
        return read_tensors(file) if file.is_file() else None


def header_of(settings: TrainSettings) -> Header:
    return Header(settings.loss.kind, settings.optimizer, adapter_key(settings.lora))


def open_trainer_state(path: str | None) -> TrainerState | None:
    """Returns the state at `path`. Raises StageError when it is named and cannot be read."""
    if path is None:
        return None
    try:
        header = msgspec.json.decode((Path(path) / HEADER).read_bytes(), type=Header)
    except (OSError, msgspec.DecodeError) as error:
        raise StageError(f"the previous round's trainer state {path} is unreadable: {error}") from (
            error
        )
    return TrainerState(Path(path), header)


def fits_model(state: TrainerState, settings: TrainSettings) -> bool:
    """Says whether the state is one of what `settings` train: a policy, or a reward model."""
    return state.header.is_classifier == header_of(settings).is_classifier


def fits_adapters(state: TrainerState, settings: TrainSettings) -> bool:
    """Says whether the state's adapters are those that `settings` would train on."""
    return state.header.adapter == header_of(settings).adapter


def write_trainer_state(
    path: Path, header: Header, files: Mapping[str, Mapping[str, Tensor]]
) -> dict[Path, str]:
    """Writes the state; `files` maps the names above to tensors, an empty one is left out.

    Returns the SHA-256 of what is on the disk already. Raises OSError, a full disk's too.
    """
    path.mkdir(parents=True, exist_ok=True)
    targets = {path / f"{name}.safetensors": held for name, held in files.items() if held}
    digests = {target: write_tensors(target, held) for target, held in targets.items()}
    (path / HEADER).write_bytes(msgspec.json.format(msgspec.json.encode(header)) + b"\n")
    return digests


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns safetensors' own exception for a full disk into OSError, which the runtime knows."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads tensors. Raises StageError naming the file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StageError(f"{path}: {error}") from error

"""Measures a model by its files: parameters by the headers of its weights, which are not read.

Which file is where, in a directory or from the hub, is the caller's to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from halos_backend.errors import UsageError
from halos_backend.records import BAD_JSON

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BYTES_OF_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class _Tensor(msgspec.Struct):
    """As a safetensors header describes it."""

    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


class ModelSize(NamedTuple):
    """`checkpoint_bytes` are those of the weights, in the dtype of the policy."""

    num_parameters: int
    checkpoint_bytes: int


def model_size(shards: Sequence[Path], dtype: str) -> ModelSize:
    """Raises UsageError for a file that is no safetensors file."""
    num_parameters = sum(_num_parameters(shard) for shard in shards)
    return ModelSize(num_parameters, num_parameters * BYTES_OF_PARAMETER.get(dtype, 4))


def find_weights(find: Callable[[str], Path | None], named: str) -> list[Path]:
    """The safetensors files of a model; `find` gives a file of it, None where there is none.

    `named` names the model in messages. Raises UsageError when one is missing.
    """
    whole = find(WEIGHTS)
    if whole is not None:
        return [whole]
    index = find(INDEX)
    names = [WEIGHTS] if index is None else _shard_names(index)
    shards = [find(name) for name in names]
    missing = [name for name, shard in zip(names, shards, strict=True) if shard is None]
    if missing:
        raise UsageError(
            f"{named}: there are no weights in safetensors ({missing[0]} is missing);"
            " save the model with save_pretrained, which writes them"
        )
    return [shard for shard in shards if shard is not None]


def file_in(folder: Path, name: str) -> Path | None:
    """A file of a model's directory."""
    file = folder / name
    return file if file.is_file() else None


def _shard_names(index: Path) -> Sequence[str]:
    try:
        return sorted(set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values()))
    except BAD_JSON as error:
        raise UsageError(f"{index} is no index of weights, or cut short; copy it again") from error


def _num_parameters(shard: Path) -> int:
    """Counted from the header: 8 bytes of its length, then JSON; the tensors' bytes follow."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if 8 + length <= size else b""
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        tensors = [msgspec.json.decode(entry, type=_Tensor) for entry in entries.values()]
    except BAD_JSON:
        tensors = None
    if tensors is not None:
        end = 8 + length + max((tensor.data_offsets[1] for tensor in tensors), default=0)
        if end <= size:
            return sum(math.prod(tensor.shape) for tensor in tensors)
    raise UsageError(f"{shard} is no safetensors file, or it was cut short; copy it again")

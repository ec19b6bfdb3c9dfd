"""Checks the policy without loading its weights: files, context, tokens; and measures them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import cached_file

from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.models import context_length, load_config, resolve_dtype

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BYTES_OF_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class CheckedPolicy:
    """What the run needs to know of its policy. `checkpoint_bytes` are those of its weights."""

    context_length: int
    max_prompt_tokens: int
    num_parameters: int
    checkpoint_bytes: int
    dtype: str
    weights: tuple[Path, ...]


def check_policy(settings: RunSettings) -> CheckedPolicy:
    """Raises UsageError for a policy that cannot be sampled from with these settings."""
    policy = settings.policy
    config = load_config(policy.path, trust_remote_code=policy.trust_remote_code)
    context = context_length(config)
    shards = weight_files(policy.path, setting="policy.path")
    num_parameters = sum(_num_parameters(shard) for shard in shards)
    dtype = str(resolve_dtype(policy.dtype, config)).removeprefix("torch.")
    return CheckedPolicy(
        context_length=context,
        max_prompt_tokens=_max_prompt_tokens(settings, context),
        num_parameters=num_parameters,
        checkpoint_bytes=num_parameters * BYTES_OF_PARAMETER.get(dtype, 4),
        dtype=dtype,
        weights=tuple(shards),
    )


def weight_files(path: str, *, setting: str) -> list[Path]:
    """The safetensors files of a model, found in its directory or fetched from the hub.

    `setting` names the model in messages. Raises UsageError when one is missing.
    """
    whole = _found(path, WEIGHTS, setting)
    if whole is not None:
        return [whole]
    index = _found(path, INDEX, setting)
    names = [WEIGHTS] if index is None else _shard_names(index)
    shards = [_found(path, name, setting) for name in names]
    missing = [name for name, shard in zip(names, shards, strict=True) if shard is None]
    if missing:
        raise UsageError(
            f"{setting} = {path!r}: there are no weights in safetensors ({missing[0]} is missing);"
            " save the model with save_pretrained, which writes them"
        )
    return [shard for shard in shards if shard is not None]


def _found(path: str, name: str, setting: str) -> Path | None:
    """A file of a model, which is a directory or else the name of a hub repository."""
    if Path(path).is_dir():
        file = Path(path) / name
        return file if file.is_file() else None
    try:
        cached = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise UsageError(f"{setting} = {path!r}: {str(error).splitlines()[0]}") from error
    return None if cached is None else Path(cached)


def _shard_names(index: Path) -> Sequence[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{index} is no index of weights, or cut short; copy it again") from error


def _max_prompt_tokens(settings: RunSettings, context: int) -> int:
    """Longest prompt that leaves room for a completion."""
    room = context - settings.sample.max_new_tokens
    wanted = settings.prompts.max_tokens
    if room < 1:
        raise UsageError(
            f"sample.max_new_tokens = {settings.sample.max_new_tokens} leaves no room for a prompt:"
            f" the policy's context is {context} tokens; lower it"
        )
    if wanted is not None and wanted > room:
        raise UsageError(
            f"prompts.max_tokens = {wanted} and sample.max_new_tokens ="
            f" {settings.sample.max_new_tokens} together exceed the policy's context of {context}"
            f" tokens; lower prompts.max_tokens to {room} or less"
        )
    return wanted or room


def _num_parameters(shard: Path) -> int:
    """Counted from the header: 8 bytes of its length, then JSON; the tensors' bytes follow."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        try:
            header = json.loads(file.read(length)) if 0 < length < size else None
        except ValueError:
            header = None
    if isinstance(header, dict):
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        if end <= size:
            return sum(math.prod(tensor["shape"]) for tensor in tensors)
    raise UsageError(f"{shard} is no safetensors file, or it was cut short; copy it again")

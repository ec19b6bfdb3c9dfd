"""Checks the policy without loading its weights: files, context, tokens; and measures them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers.utils import cached_file

from halos_backend.config.model_files import file_in, find_weights, model_size
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.models import context_length, load_config, resolve_dtype


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
    dtype = str(resolve_dtype(policy.dtype, config)).removeprefix("torch.")
    size = model_size(shards, dtype)
    return CheckedPolicy(
        context_length=context,
        max_prompt_tokens=_max_prompt_tokens(settings, context),
        num_parameters=size.num_parameters,
        checkpoint_bytes=size.checkpoint_bytes,
        dtype=dtype,
        weights=tuple(shards),
    )


def weight_files(path: str, *, setting: str) -> list[Path]:
    """The safetensors files of a model, found in its directory or fetched from the hub.

    `setting` names the model in messages. Raises UsageError when one is missing.
    """
    return find_weights(partial(_found, path, setting=setting), f"{setting} = {path!r}")


def _found(path: str, name: str, *, setting: str) -> Path | None:
    """A file of a model, which is a directory or else the name of a hub repository."""
    if Path(path).is_dir():
        return file_in(Path(path), name)
    try:
        cached = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise UsageError(f"{setting} = {path!r}: {str(error).splitlines()[0]}") from error
    return None if cached is None else Path(cached)


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

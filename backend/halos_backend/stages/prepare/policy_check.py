"""Checks the policy without loading its weights: files, context, tokens; and measures them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import cached_file

from halos_backend.config.model_files import file_in, find_weights, model_size
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.chat import sampling_prefix
from halos_backend.stages.models import context_length, resolve_dtype


@dataclass(frozen=True)
class CheckedPolicy:
    """What the run needs to know of its policy. `checkpoint_bytes` are those of its weights."""

    architecture: str
    context_length: int
    num_parameters: int
    checkpoint_bytes: int
    dtype: str
    weights: tuple[Path, ...]

    def measures(self) -> dict[str, int | str]:
        """By the names of `prepared.json`."""
        return {
            "context_length": self.context_length,
            "num_parameters": self.num_parameters,
            "checkpoint_bytes": self.checkpoint_bytes,
            "policy_dtype": self.dtype,
        }


def check_policy(settings: RunSettings, config: PretrainedConfig) -> CheckedPolicy:
    """Measure the policy of this configuration by its files. Raises UsageError."""
    shards = weight_files(settings.policy.path, setting="policy.path")
    dtype = str(resolve_dtype(settings.policy.dtype, config)).removeprefix("torch.")
    size = model_size(shards, dtype)
    return CheckedPolicy(
        architecture=", ".join(map(str, config.architectures or [config.model_type])),
        context_length=context_length(config),
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


def longest_prompt(
    settings: RunSettings, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> int:
    """Tokens of the longest prompt that leaves room for a completion, and for a control text before
    it. Raises UsageError where there is no room, or less than the settings ask for.
    """
    context, completion = context_length(config), settings.sample.max_new_tokens
    room = context - completion
    wanted = settings.prompts.max_tokens
    if room < 1:
        raise UsageError(
            f"sample.max_new_tokens = {completion} leaves no room for a prompt: the policy's"
            f" context is {context} tokens; lower it to {max(1, context // 2)}, say"
        )
    if wanted is not None and wanted > room:
        raise UsageError(
            f"prompts.max_tokens = {wanted} and sample.max_new_tokens = {completion} together"
            f" exceed the policy's context of {context} tokens; lower prompts.max_tokens to {room}"
            " or less"
        )
    return min(wanted or room, room - len(sampling_prefix(tokenizer, settings.train.loss)))


def check_stop_tokens(settings: RunSettings, vocabulary: int) -> None:
    """Raises UsageError for a stop token that the policy does not have."""
    for token_id in settings.sample.stop_token_ids:
        if not 0 <= token_id < vocabulary:
            raise UsageError(
                f"sample.stop_token_ids: {token_id} is no token of the policy; it has {vocabulary}"
            )

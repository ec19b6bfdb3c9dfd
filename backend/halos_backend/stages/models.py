"""Loads tokenizers and models the one way every stage does: safetensors only, no foreign code
unless the settings trust it, one chat template, errors that name the thing and the fix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from halos_backend.config.schema import LaunchSettings, PolicySettings
from halos_backend.errors import UsageError

T = TypeVar("T")
WEIGHTS_FAILURES = (OSError, ValueError, KeyError, ImportError, SafetensorError)
"""Of weights that are wrong; others, as of too little memory, are for the stage to tell."""
LONGEST_REASON = 300
TOKENIZER_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""Of all files that tokenizers are made of, and of no weights."""


def pick_device(launch: LaunchSettings, *, local_rank: int = 0) -> torch.device:
    """The GPU of this rank, or the CPU."""
    if launch.device == "auto" and torch.cuda.is_available():
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def resolve_dtype(name: str, config: PretrainedConfig) -> torch.dtype:
    """`auto` is the dtype the checkpoint was saved in, float32 where it does not say."""
    if name != "auto":
        return getattr(torch, name)
    saved = getattr(config, "dtype", None)
    return saved if isinstance(saved, torch.dtype) else torch.float32


@dataclass(frozen=True)
class _TokenizerFiles:
    """What a tokenizer is made of: equal where the bytes are, wherever they lie."""

    path: str = field(compare=False)
    digest: str
    template: str | None


def load_tokenizer(path: str, policy: PolicySettings) -> PreTrainedTokenizerBase:
    """The policy's tokenizer with the run's chat template and a pad token. Raises UsageError.

    In a process that stays it is the one before, where its files are the same.
    """
    template = None if policy.chat_template is None else _read_template(policy.chat_template)
    if policy.trust_remote_code or not Path(path).is_dir():
        tokenizer = read_tokenizer(path, trust_remote_code=policy.trust_remote_code)
        return _completed(tokenizer, path, template)
    return _kept_tokenizer(_TokenizerFiles(path, _digest_of_tokenizer(Path(path)), template))


@lru_cache(maxsize=1)
def _kept_tokenizer(files: _TokenizerFiles) -> PreTrainedTokenizerBase:
    tokenizer = read_tokenizer(files.path, trust_remote_code=False)
    return _completed(tokenizer, files.path, files.template)


def _completed(
    tokenizer: PreTrainedTokenizerBase, path: str, template: str | None
) -> PreTrainedTokenizerBase:
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.chat_template is None:
        raise UsageError(
            f"the tokenizer of {path} has no chat template; name a Jinja file in"
            " policy.chat_template"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _read_template(path: str) -> str:
    try:
        if not Path(path).is_file():
            raise UsageError(
                f"policy.chat_template = {path!r}: there is no such file; name a Jinja file, or"
                " leave it out for the policy's own template"
            )
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"policy.chat_template = {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"policy.chat_template = {path!r}: line {line} is not UTF-8 text; save it as UTF-8"
        ) from error


def _digest_of_tokenizer(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in TOKENIZER_SUFFIXES and path.is_file():
            digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def read_tokenizer(path: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """A tokenizer as its directory has it. Raises UsageError."""
    return _loading(
        "tokenizer",
        path,
        lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code),
    )


def load_config(path: str, *, trust_remote_code: bool) -> PretrainedConfig:
    """The model's configuration. Raises UsageError."""
    return _loading(
        "model",
        path,
        lambda: AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code),
    )


def load_policy(path: str, policy: PolicySettings, *, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model on the CPU, in evaluation mode. Raises UsageError."""
    model = _load_weights(AutoModelForCausalLM, path, dtype, policy.trust_remote_code)
    return model.eval()


def load_classifier(
    path: str, *, dtype: torch.dtype, trust_remote_code: bool, whole: bool = False, **config: Any
) -> PreTrainedModel:
    """A sequence classifier on the CPU, in evaluation mode. Raises UsageError.

    `whole` refuses weights without the classifier's own head, which transformers would draw at
    random; without it a causal language model can be made into a classifier that is to be trained.
    """
    auto_class = AutoModelForSequenceClassification
    if not whole:
        return _load_weights(auto_class, path, dtype, trust_remote_code, **config).eval()
    model, loading = _load_weights(
        auto_class, path, dtype, trust_remote_code, output_loading_info=True, **config
    )
    if missing := sorted(loading["missing_keys"]):
        raise UsageError(
            f"{path} is no reward model: its weights have no {missing[0]}."
            " Name a model that was trained and saved as a sequence classifier"
        )
    return model.eval()


def one_line(error: BaseException) -> str:
    """The first line of what a library says; its exception's name where it says nothing by itself,
    as `KeyError: 'x'`.
    """
    first, *others = str(error).strip().splitlines() or [""]
    if first.endswith(":") and others:
        first = f"{first} {others[0].strip()}"
    speaks = isinstance(error, (OSError, ValueError, ImportError)) and " " in first
    text = first if speaks else f"{type(error).__name__}: {first}"
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def context_length(config: PretrainedConfig) -> int:
    """Tokens the model can see, prompt and completion together."""
    text_config = config.get_text_config()
    return int(getattr(text_config, "max_position_embeddings", None) or 2**20)


def load_generation_config(path: str, config: PretrainedConfig) -> GenerationConfig:
    """The policy's generation settings without the policy: its file's, else its configuration's."""
    try:
        return GenerationConfig.from_pretrained(path)
    except OSError:
        return GenerationConfig.from_model_config(config)


def end_token_ids(
    generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase
) -> set[int]:
    """Every token at which the policy itself ends: its generation settings' and its tokenizer's."""
    ids: set[int] = set()
    configured = generation.eos_token_id if generation else None
    for value in (configured, tokenizer.eos_token_id):
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids.update(value)
    return ids


def _load_weights(
    auto_class: Any, path: str, dtype: torch.dtype, trust_remote_code: bool, **config: Any
) -> Any:
    return _loading(
        "model",
        path,
        lambda: auto_class.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, **config
        ),
        failures=WEIGHTS_FAILURES,
    )


def _loading(
    what: str,
    path: str,
    load: Callable[[], T],
    *,
    failures: tuple[type[Exception], ...] = (Exception,),
) -> T:
    """Whatever transformers raises here is about the files it was to read: "no network", "no such
    model", "wrong file" are many exceptions, and nonsense in a configuration may fail anywhere.
    """
    transformers_logging.disable_progress_bar()  # a stage's log is a file; progress is an event
    try:
        return load()
    except failures as error:
        raise UsageError(
            f"cannot load the {what} {path}: {one_line(error)}; {_what_to_load(path)}"
        ) from error


def _what_to_load(path: str) -> str:
    if Path(path).is_dir():
        return "copy its files again, or mend the one that is wrong"
    return (
        "name a directory with config.json, *.safetensors weights and a tokenizer, or a hub name"
        " that this machine can reach"
    )

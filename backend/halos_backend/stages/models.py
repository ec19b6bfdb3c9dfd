"""Loads tokenizers and models the one way every stage does.

It takes safetensors only, no foreign code unless the settings trust it, and one chat template;
errors name the thing and the fix. A model is what the weights of its directory say: every tensor of
its architecture must be there, and adapters that lie beside are left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
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

from halos_backend.config.needs import INDEX, WEIGHTS
from halos_backend.config.schema import LaunchSettings, PolicySettings
from halos_backend.errors import UsageError
from halos_backend.stages.model_limits import has_embedding

T = TypeVar("T")
WEIGHTS_FAILURES = (OSError, ValueError, KeyError, ImportError, SafetensorError)
"""Names errors of weights that are wrong; others, as of too little memory, are the stage's to
report.
"""
LONGEST_REASON = 300
TOKENIZER_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken")
"""Lists the endings of all files that tokenizers are made of, and of no weights."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = "adapter_"
"""Begins the names of peft's files."""


def pick_device(launch: LaunchSettings, *, local_rank: int = 0) -> torch.device:
    """Returns the GPU of this rank, or the CPU."""
    if launch.device == "auto" and torch.cuda.is_available():
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def resolve_dtype(name: str, config: PretrainedConfig) -> torch.dtype:
    """Returns a dtype: `auto` is the one the checkpoint was saved in, float32 where it does not
    say.
    """
    if name != "auto":
        return getattr(torch, name)
    saved = getattr(config, "dtype", None)
    return saved if isinstance(saved, torch.dtype) else torch.float32


@dataclass(frozen=True)
class _TokenizerFiles:
    """Says what a tokenizer is made of: equal where the bytes are, wherever they lie."""

    path: str = field(compare=False)
    digest: str
    template: str | None


def load_tokenizer(path: str, policy: PolicySettings) -> PreTrainedTokenizerBase:
    """Returns the policy's tokenizer with the run's chat template and a pad token. Raises
    UsageError.

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
            f"the tokenizer of {path} has no chat template",
            fix="name a Jinja file in policy.chat_template",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _read_template(path: str) -> str:
    try:
        if not Path(path).is_file():
            raise UsageError(
                f"policy.chat_template = {path!r}: there is no such file",
                fix="name a Jinja file, or leave it out for the policy's own template",
            )
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"policy.chat_template = {path!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"policy.chat_template = {path!r}: line {line} is not UTF-8 text",
            fix="save it as UTF-8",
        ) from error


def _digest_of_tokenizer(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in TOKENIZER_SUFFIXES and path.is_file():
            digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def read_tokenizer(path: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Returns a tokenizer as its directory has it. Raises UsageError."""
    return _loading(
        "tokenizer",
        path,
        lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code),
    )


def load_config(path: str, *, trust_remote_code: bool, **changes: Any) -> PretrainedConfig:
    """Returns the model's configuration, with `changes`. Raises UsageError.

    A padding id without an embedding is left out: torch refuses it, and takes a negative one for a
    token at the vocabulary's end.
    """
    folder = Path(path)
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        raise UsageError(_only_an_adapter(path))
    config = _loading(
        "model",
        path,
        lambda: AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, **changes),
    )
    for part in (config, config.get_text_config()):
        pad_id = getattr(part, "pad_token_id", None)
        if isinstance(pad_id, int) and not has_embedding(pad_id, config):
            part.pad_token_id = None
    return config


def load_policy(path: str, policy: PolicySettings, *, dtype: torch.dtype) -> PreTrainedModel:
    """Loads a causal language model on the CPU, in evaluation mode. Raises UsageError."""
    return _load_policy(path, policy, dtype=dtype)


def outline_policy(path: str, policy: PolicySettings) -> PreTrainedModel:
    """Returns the policy without the values of its weights, of which only the headers are read.

    Raises UsageError where it could not be loaded either.
    """
    return _load_policy(path, policy, device_map="meta")


def _load_policy(path: str, policy: PolicySettings, **how: Any) -> PreTrainedModel:
    model, missing = _load_weights(AutoModelForCausalLM, path, policy.trust_remote_code, **how)
    if missing:
        raise UsageError(
            f"{path} is no whole {type(model).__name__}: its weights have no {missing[0]}"
            f"{_and_more(missing)}. Name a model that was saved with all its weights"
        )
    return model


def load_classifier(
    path: str, *, dtype: torch.dtype, trust_remote_code: bool, whole: bool = False, **config: Any
) -> PreTrainedModel:
    """Loads a sequence classifier on the CPU, in evaluation mode. Raises UsageError.

    `whole` refuses weights without the classifier's own head, which transformers would draw at
    random; without it a causal language model can be made into a classifier that is to be trained.
    """
    return _load_classifier(path, trust_remote_code, whole=whole, config=config, dtype=dtype)


def outline_classifier(
    path: str, *, trust_remote_code: bool, whole: bool = True, **config: Any
) -> PreTrainedModel:
    """Returns the classifier without the values of its weights. See `outline_policy`."""
    return _load_classifier(path, trust_remote_code, whole=whole, config=config, device_map="meta")


def empty_classifier(path: str, *, trust_remote_code: bool) -> PreTrainedModel:
    """Returns the classifier's modules by its configuration alone. Raises UsageError.

    It needs no accelerate, which an interpreter that is not ours may lack.
    """
    config = load_config(path, trust_remote_code=trust_remote_code)

    def build() -> PreTrainedModel:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
                config, trust_remote_code=trust_remote_code
            )
        return model

    return _loading("model", path, build)


def _load_classifier(
    path: str, trust_remote_code: bool, *, whole: bool, config: Mapping[str, Any], **how: Any
) -> PreTrainedModel:
    model, missing = _load_weights(
        AutoModelForSequenceClassification, path, trust_remote_code, changes=config, **how
    )
    if not whole:
        body = f"{model.base_model_prefix}."
        missing = [name for name in missing if name.startswith(body)]
    if missing:
        raise UsageError(
            f"{path} is no reward model: its weights have no {missing[0]}{_and_more(missing)}."
            " Name a model that was trained and saved as a sequence classifier"
        )
    return model


def one_line(error: BaseException) -> str:
    """Returns the first line of what a library says; with the exception's name where it says
    nothing by itself, as `KeyError: 'x'`.
    """
    first, *others = str(error).strip().splitlines() or [""]
    if first.endswith(":") and others:
        first = f"{first} {others[0].strip()}"
    speaks = isinstance(error, (OSError, ValueError, ImportError)) and " " in first
    text = first if speaks else f"{type(error).__name__}: {first}"
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def surplus_weights(path: str) -> str | None:
    """Finds a safetensors file beside the model's own that vLLM would take for a part of it."""
    folder = Path(path)
    if (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
        names = {file.name for file in folder.glob("*.safetensors")} - {WEIGHTS}
        return min(names, default=None)
    return None


def load_generation_config(path: str, config: PretrainedConfig) -> GenerationConfig:
    """Returns the policy's generation settings without the policy: its file's, else its
    configuration's.

    Raises UsageError.
    """

    def load() -> GenerationConfig:
        try:
            return GenerationConfig.from_pretrained(path)
        except OSError:
            return GenerationConfig.from_model_config(config)

    return _loading("generation settings of", path, load)


def end_token_ids(
    generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase
) -> set[int]:
    """Returns every token at which the policy itself ends: its generation settings' and its
    tokenizer's.
    """
    ids: set[int] = set()
    configured = generation.eos_token_id if generation else None
    for value in (configured, tokenizer.eos_token_id):
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids.update(value)
    return ids


def _load_weights(
    auto_class: Any,
    path: str,
    trust_remote_code: bool,
    *,
    changes: Mapping[str, Any] | None = None,
    **how: Any,
) -> tuple[PreTrainedModel, list[str]]:
    """Returns the model, and which of its tensors its files do not have."""
    config = load_config(path, trust_remote_code=trust_remote_code, **(changes or {}))
    with _without_adapter(path) as folder:
        model, found = _loading(
            "model",
            path,
            lambda: auto_class.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **how,
            ),
            # of an outline whatever fails is about the files
            failures=(Exception,) if "device_map" in how else WEIGHTS_FAILURES,
        )
    model.config._name_or_path = model.name_or_path = path
    for name, saved, expected in sorted(found["mismatched_keys"]):
        raise UsageError(
            f"cannot load the model {path}: its weights have {name} of shape {tuple(saved)}, and"
            f" by its config.json that is {tuple(expected)}",
            fix="the two do not belong together",
        )
    return model.eval(), sorted(found["missing_keys"])


@contextmanager
def _without_adapter(path: str) -> Iterator[str]:
    """Yields the model's directory without adapter files: transformers attaches them by itself."""
    folder = Path(path)
    if not (folder / ADAPTER_CONFIG).is_file():
        yield path
        return
    with TemporaryDirectory(prefix="halos-weights-") as place:
        view = Path(place) / folder.resolve().name
        view.mkdir()
        for entry in folder.iterdir():
            if not entry.name.startswith(ADAPTER_FILES):
                (view / entry.name).symlink_to(entry.resolve())
        yield str(view)


def _only_an_adapter(path: str) -> str:
    merging = (
        f"from peft import AutoPeftModelForCausalLM as M;M.from_pretrained({path!r})"
        f".merge_and_unload().save_pretrained({path + '-merged'!r})"
    )
    return (
        f"{path} holds an adapter ({ADAPTER_CONFIG}) and no model; merge it into its base model,"
        f' copy the tokenizer there and name that, for example: python -c "{merging}"'
    )


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _loading(
    what: str,
    path: str,
    load: Callable[[], T],
    *,
    failures: tuple[type[Exception], ...] = (Exception,),
) -> T:
    """Calls `load` and turns whatever transformers raises into an error about the files it was to
    read.

    "no network", "no such model", "wrong file" are many exceptions, and nonsense in a configuration
    may fail anywhere.
    """
    transformers_logging.disable_progress_bar()  # a stage's log is a file; progress is an event
    try:
        return load()
    except failures as error:
        raise UsageError(
            f"cannot load the {what} {path}: {one_line(error)}", fix=_what_to_load(path)
        ) from error


def _what_to_load(path: str) -> str:
    if Path(path).is_dir():
        return "copy its files again, or mend the one that is wrong"
    return (
        "name a directory with config.json, *.safetensors weights and a tokenizer, or a hub name"
        " that this machine can reach"
    )

"""Checks the models of a run without loading their weights: the policy, and the judge.

The policy is measured: its kind, files, context, tokens, and whether what the settings ask of
sampling and training can be done with it. Of a judge a function is imported, a model's files are
looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import (
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from halos_backend.config.api_judge import ApiJudge, check_api
from halos_backend.config.losses import BradleyTerry
from halos_backend.config.needs import file_in, find_weights, model_size
from halos_backend.config.schema import FunctionJudge, PolicySettings, RewardModelJudge, RunSettings
from halos_backend.errors import StageError, UsageError
from halos_backend.findings import Finding
from halos_backend.interpreters.programs import stage_environment
from halos_backend.stages.carried_files import OF_PROCESSORS
from halos_backend.stages.chat import sampling_prefix
from halos_backend.stages.label.conversations import load_judge_tokenizer, tokenize_conversations
from halos_backend.stages.label.function import check_function
from halos_backend.stages.label.judge import LabelRow
from halos_backend.stages.label.reward_model import check_vocabulary, most_tokens
from halos_backend.stages.model_limits import context_length, has_embedding
from halos_backend.stages.models import (
    ADAPTER_CONFIG,
    end_token_ids,
    load_config,
    load_generation_config,
    outline_classifier,
    outline_policy,
    resolve_dtype,
)
from halos_backend.stages.prepare.input_notes import model_files
from halos_backend.stages.sample.transformers_engine import find_obstacle
from halos_backend.stages.train.trainee import enable_checkpointing, with_adapters
from halos_backend.store.run_dir import RunDir

PROBE = LabelRow("", "", ({"role": "user", "content": "a"},), "b")
"""Is a conversation by which one sees the special tokens that the chat template writes."""


@dataclass(frozen=True)
class CheckedPolicy:
    """Holds what the run needs to know of its policy. `checkpoint_bytes` are those of its weights.

    `outline` is the policy without the values of its weights.
    """

    architecture: str
    context_length: int
    num_parameters: int
    checkpoint_bytes: int
    dtype: str
    weights: tuple[Path, ...]
    outline: PreTrainedModel


def check_policy(settings: RunSettings, config: PretrainedConfig) -> CheckedPolicy:
    """Measures the policy of this configuration by its files. Raises UsageError."""
    _check_kind(settings.policy, config)
    shards = weight_files(settings.policy.path, setting="policy.path")
    dtype = str(resolve_dtype(settings.policy.dtype, config)).removeprefix("torch.")
    size = model_size(shards, dtype)
    _fetch_carried_files(settings.policy.path)
    return CheckedPolicy(
        architecture=", ".join(map(str, config.architectures or [config.model_type])),
        context_length=context_length(config),
        num_parameters=size.num_parameters,
        checkpoint_bytes=size.checkpoint_bytes,
        dtype=dtype,
        weights=tuple(shards),
        outline=outline_policy(settings.policy.path, settings.policy),
    )


def check_ends(
    policy: PolicySettings, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raises UsageError for an end token that the policy cannot say."""
    ends = end_token_ids(load_generation_config(policy.path, config), tokenizer)
    if not all(isinstance(token_id, int) for token_id in ends):
        raise UsageError(
            f"policy.path = {policy.path!r}: its end tokens are no numbers",
            fix="mend eos_token_id in generation_config.json or config.json",
        )
    for token_id in sorted(ends):
        if token_id >= 0 and not has_embedding(token_id, config):
            raise UsageError(
                f"policy.path = {policy.path!r}: its end token"
                f" {describe_token(token_id, tokenizer)}"
                f" {unknown(config)}",
                fix=f"{resizing(token_id)}, or name another end token in tokenizer_config.json and"
                " generation_config.json",
            )


def describe_token(token_id: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Names a token for a person: `7 ('</s>')`."""
    return f"{token_id} ({tokenizer.convert_ids_to_tokens(token_id)!r})"


def unknown(config: PretrainedConfig) -> str:
    """Says what is wrong with a token that the policy does not know."""
    return f"has no row in the policy's embedding of {config.get_text_config().vocab_size}"


def resizing(token_id: int) -> str:
    """Says how the policy gets to know that token."""
    return f"call model.resize_token_embeddings({token_id + 1}) and save the model"


def check_transformers_engine(policy: PolicySettings, outline: PreTrainedModel) -> None:
    """Raises UsageError for a policy that the transformers engine cannot sample from."""
    if obstacle := find_obstacle(outline):
        raise UsageError(
            f"policy.path = {policy.path!r} cannot be sampled by the transformers engine:"
            f" {obstacle}",
            fix="name another policy, or sample with vLLM if that knows it",
        )


def check_training(settings: RunSettings) -> None:
    """Raises UsageError for adapters or checkpointing that the model does not have."""
    policy, train = settings.policy, settings.train
    is_classifier = isinstance(train.loss, BradleyTerry)
    if is_classifier:
        model = outline_classifier(
            policy.path, trust_remote_code=policy.trust_remote_code, whole=False, num_labels=1
        )
    elif train.gradient_checkpointing or train.lora is not None:
        model = outline_policy(policy.path, policy)
    else:
        return
    try:
        if train.gradient_checkpointing:
            enable_checkpointing(model)
        if train.lora is not None:
            with_adapters(model, train.lora, is_classifier=is_classifier)
    except StageError as error:
        raise UsageError(f"policy.path = {policy.path!r}: {error.text}", fix=error.fix) from error


def find_adapter(setting: str, path: str) -> Finding | None:
    """Warns of adapter files beside weights."""
    if not (Path(path) / ADAPTER_CONFIG).is_file():
        return None
    return Finding(
        "warning",
        setting.partition(".")[0],
        f"{setting} = {path!r} has an adapter ({ADAPTER_CONFIG}) beside its weights, which are"
        " taken without it",
        "if it is not in them yet, merge it and name the merged model",
    )


def _check_kind(policy: PolicySettings, config: PretrainedConfig) -> None:
    """Raises UsageError for what is no plain causal language model."""
    kind, named = type(config).__name__.removesuffix("Config"), f"policy.path = {policy.path!r}"
    if not Path(policy.path).is_dir() and _found(
        policy.path, ADAPTER_CONFIG, setting="policy.path"
    ):
        raise UsageError(
            f"{named} has an adapter beside its weights ({ADAPTER_CONFIG})",
            fix="download it without adapter_* files, and name that directory",
        )
    is_encoder = type(config) in AutoModelForMaskedLM._model_mapping and not getattr(
        config, "is_decoder", False
    )
    if config.is_encoder_decoder or is_encoder:
        raise UsageError(
            f"{named} is {kind}, which does not write text from left to right",
            fix="name a causal language model",
        )
    quantized = getattr(config, "quantization_config", None)
    if quantized is not None:
        how = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise UsageError(
            f"{named} is quantized ({how or 'quantization_config in config.json'}) and cannot be"
            " trained",
            fix="name the model before it was quantized, or one that was dequantized",
        )


def _fetch_carried_files(path: str) -> None:
    """Fetches the hub's processor files to this machine, so that checkpoints get them."""
    if not Path(path).is_dir():
        for name in OF_PROCESSORS:
            _found(path, name, setting="policy.path")


def weight_files(path: str, *, setting: str) -> list[Path]:
    """Returns the safetensors files of a model, found in its directory or fetched from the hub.

    `setting` names the model in messages. Raises UsageError when one is missing.
    """
    return find_weights(partial(_found, path, setting=setting), f"{setting} = {path!r}")


def _found(path: str, name: str, *, setting: str) -> Path | None:
    """Finds a file of a model, which is a directory or else the name of a hub repository."""
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
    """Counts the tokens of the longest prompt that leaves room for a completion and a control text
    before it.

    Raises UsageError where there is no room, or less than the settings ask for.
    """
    context, completion = context_length(config), settings.sample.max_new_tokens
    room = context - completion
    wanted = settings.prompts.max_tokens
    if room < 1:
        raise UsageError(
            f"sample.max_new_tokens = {completion} leaves no room for a prompt: the policy's"
            f" context is {context} tokens",
            fix=f"lower it to {max(1, context // 2)}, say",
        )
    if wanted is not None and wanted > room:
        raise UsageError(
            f"prompts.max_tokens = {wanted} and sample.max_new_tokens = {completion} together"
            f" exceed the policy's context of {context} tokens",
            fix=f"lower prompts.max_tokens to {room} or less",
        )
    return min(wanted or room, room - len(sampling_prefix(tokenizer, settings.train.loss)))


def check_stop_tokens(settings: RunSettings, vocabulary: int) -> None:
    """Raises UsageError for a stop token that the policy does not have."""
    for token_id in settings.sample.stop_token_ids:
        if not 0 <= token_id < vocabulary:
            raise UsageError(
                f"sample.stop_token_ids: {token_id} is no token of the policy",
                fix=f"it has {vocabulary}",
            )


@dataclass(frozen=True)
class CheckedJudge:
    """Says what gives the rewards, in words; a function has no parameters. `files` are those that
    it consists of.
    """

    about: str
    num_parameters: int
    files: tuple[Path, ...]


def check_judge(settings: RunSettings, run_dir: RunDir) -> CheckedJudge:
    """Checks the judge. Raises UsageError for one that could not score."""
    match settings.label.judge:
        case FunctionJudge(function=function):
            python = settings.label.python
            environment = stage_environment(run_dir.path, settings.launch, python=python)
            files = check_function(function, environment, python=python)
            return CheckedJudge(f"the function {function}", 0, files)
        case ApiJudge() as api:
            check_api(api)
            about = f"{api.model} at {api.base_url}; scoring needs no GPU here"
            return CheckedJudge(about, 0, ())
        case RewardModelJudge() as judge:
            return _check_reward_model(judge)


def _check_reward_model(judge: RewardModelJudge) -> CheckedJudge:
    config = load_config(judge.path, trust_remote_code=judge.trust_remote_code)
    kinds = config.architectures or []
    if not any("SequenceClassification" in kind or "RewardModel" in kind for kind in kinds):
        raise UsageError(
            f"label.judge.path = {judge.path!r} is no sequence classifier"
            f" ({', '.join(kinds) or 'no architecture named'})",
            fix="name a reward model saved as AutoModelForSequenceClassification",
        )
    if config.num_labels > 2 and not judge.trust_remote_code:
        raise UsageError(
            f"label.judge.path = {judge.path!r} has {config.num_labels} labels",
            fix="a reward model has"
            " one or two (ArmoRM's own `score` needs label.judge.trust_remote_code = true)",
        )
    tokenizer = load_judge_tokenizer(judge.path, trust_remote_code=judge.trust_remote_code)
    shards = weight_files(judge.path, setting="label.judge.path")
    num_parameters = model_size(shards, "float32").num_parameters
    outline = outline_classifier(judge.path, trust_remote_code=judge.trust_remote_code)
    (ids,) = tokenize_conversations(tokenizer, [PROBE], max_tokens=most_tokens(judge, outline))
    if isinstance(ids, list):
        check_vocabulary([ids], outline.config, tokenizer, f"label.judge.path = {judge.path!r}")
    return CheckedJudge(
        f"the reward model {judge.path}: {', '.join(kinds)}",
        num_parameters,
        model_files(shards, has_code=judge.trust_remote_code),
    )

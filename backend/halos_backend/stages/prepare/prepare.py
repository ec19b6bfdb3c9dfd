"""The check of a run's inputs, top to bottom: judge, policy, then every prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from halos_backend import atomic, clock
from halos_backend.config.schema import RunSettings
from halos_backend.errors import PromptsError, UsageError
from halos_backend.interpreters.judge import check_judge_engine
from halos_backend.interpreters.sampler import check_sampler
from halos_backend.records import Prompt, encode_row, read_rows
from halos_backend.stages.chat import prompt_token_ids, sampling_prefix
from halos_backend.stages.kernels_check import check_kernels
from halos_backend.stages.models import load_tokenizer
from halos_backend.stages.prepare.input_notes import note_inputs, policy_digest
from halos_backend.stages.prepare.judge_check import check_judge
from halos_backend.stages.prepare.policy_check import CheckedPolicy, check_policy
from halos_backend.stages.prepare.rows import SourcePrompt, source_prompts
from halos_backend.stages.prepare.source import read_source
from halos_backend.store.run_dir import RunDir

CHUNK = 512
PROGRESS_INTERVAL_S = 0.1


def prepare(run_dir: RunDir, *, has_prompts: bool = False) -> None:
    """Write `prompts.jsonl` and `prepared.json`. Raises UsageError and PromptsError.

    `has_prompts`: the prompts are there, frozen for the run that this one is forked from.
    """
    settings = RunSettings.model_validate_json(run_dir.resolved_config.read_bytes())
    check_judge(settings.label.judge)
    judge_engine = check_judge_engine(settings)
    policy = check_policy(settings)
    check_kernels(settings, settings.policy.path)
    sampler = check_sampler(settings)
    if has_prompts:
        num_prompts, num_too_long = check_frozen_prompts(run_dir, settings, policy), 0
    else:
        num_prompts, num_too_long = _freeze_prompts(run_dir, settings, policy)
    inputs = note_inputs(run_dir, settings, policy.weights)
    found = {
        "num_prompts": num_prompts,
        "num_too_long": num_too_long,
        "prompts_sha256": inputs[0].sha256,
        "policy_sha256": policy_digest(inputs),
        "checkpoint_bytes": policy.checkpoint_bytes,
        "num_parameters": policy.num_parameters,
        "context_length": policy.context_length,
        "policy_dtype": policy.dtype,
        "sampler": sampler.engine,
        "judge_engine": judge_engine,
        "inputs": inputs,
    }
    atomic.write_bytes(run_dir.prepared, msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def _freeze_prompts(
    run_dir: RunDir, settings: RunSettings, policy: CheckedPolicy
) -> tuple[int, int]:
    """Write the prompts that fit; returns how many, and how many were too long."""
    tokenizer = load_tokenizer(settings.policy.path, settings.policy)
    _check_stop_tokens(settings, len(tokenizer))
    max_tokens = _max_tokens(tokenizer, settings, policy)
    sources = list(source_prompts(read_source(settings.prompts), settings.prompts))
    if not sources:
        raise PromptsError(f"prompts.path = {settings.prompts.path!r}: there are no prompts in it")
    num_prompts = num_too_long = 0
    with run_dir.prompts.open("wb") as file:
        for chunk in _chunks(sources):
            encoded = _encoded(tokenizer, chunk)
            for source, token_ids in zip(chunk, encoded, strict=True):
                if len(token_ids) > max_tokens:
                    num_too_long += 1
                    continue
                num_prompts += 1
                file.write(encode_row(_prompt(source, token_ids)))
    atomic.fsync_file(run_dir.prompts)
    if num_prompts == 0:
        raise PromptsError(
            f"{settings.prompts.path}: all {num_too_long} prompts are longer than {max_tokens}"
            " tokens; lower sample.max_new_tokens or raise prompts.max_tokens"
        )
    return num_prompts, num_too_long


def check_frozen_prompts(run_dir: RunDir, settings: RunSettings, policy: CheckedPolicy) -> int:
    """How many frozen prompts there are. Raises UsageError where one is too long for `settings`.

    It cannot be left out: the order of the prompts depends on how many there are.
    """
    tokenizer = load_tokenizer(settings.policy.path, settings.policy)
    _check_stop_tokens(settings, len(tokenizer))
    max_tokens = _max_tokens(tokenizer, settings, policy)
    lengths = [len(prompt.token_ids) for prompt in read_rows(run_dir.prompts, Prompt)]
    too_long = sum(length > max_tokens for length in lengths)
    if too_long:
        raise UsageError(
            f"{too_long} of {len(lengths)} prompts have more than the {max_tokens} tokens that"
            f" sample.max_new_tokens = {settings.sample.max_new_tokens} leaves: lower it"
        )
    return len(lengths)


def _max_tokens(
    tokenizer: PreTrainedTokenizerBase, settings: RunSettings, policy: CheckedPolicy
) -> int:
    """Longest prompt that leaves room for a completion, and for a control text before it."""
    prefix = sampling_prefix(tokenizer, settings.train.loss)
    room = policy.context_length - settings.sample.max_new_tokens
    return min(policy.max_prompt_tokens, room - len(prefix))


def _encoded(tokenizer: PreTrainedTokenizerBase, chunk: Sequence[SourcePrompt]) -> list[list[int]]:
    """Token ids of each prompt; a prompt that the chat template refuses is found and named."""
    try:
        return prompt_token_ids(tokenizer, [source.messages for source in chunk])
    except TemplateError as error:
        if len(chunk) == 1:
            raise PromptsError(
                f"{chunk[0].where}: the policy's chat template refuses the conversation: {error}"
            ) from error
        return [token_ids for source in chunk for token_ids in _encoded(tokenizer, [source])]


def _prompt(source: SourcePrompt, token_ids: list[int]) -> Prompt:
    return Prompt(source.prompt_id, source.messages, tuple(token_ids), source.columns)


def _chunks(sources: list[SourcePrompt]) -> Iterator[list[SourcePrompt]]:
    """Tokenized together; says on standard output how far it is."""
    done, last = 0, float("-inf")
    for start in range(0, len(sources), CHUNK):
        chunk = sources[start : start + CHUNK]
        yield chunk
        done += len(chunk)
        if done == len(sources) or clock.monotonic() - last > PROGRESS_INTERVAL_S:
            last = clock.monotonic()
            print(f"progress {done} {len(sources)}", flush=True)  # noqa: T201


def _check_stop_tokens(settings: RunSettings, vocabulary: int) -> None:
    for token_id in settings.sample.stop_token_ids:
        if not 0 <= token_id < vocabulary:
            raise UsageError(
                f"sample.stop_token_ids: {token_id} is no token of the policy (it has {vocabulary})"
            )

"""Freezes a run's prompts: read, rendered with the chat template, measured, written down once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from halos_backend import atomic, clock
from halos_backend.config.schema import PromptsSettings, RunSettings
from halos_backend.errors import PromptsError, UsageError
from halos_backend.records import Prompt, encode_row, read_rows
from halos_backend.stages.chat import prompt_token_ids
from halos_backend.stages.prepare.rows import SourcePrompt, source_prompts
from halos_backend.stages.prepare.source import read_source
from halos_backend.store.run_dir import RunDir

CHUNK = 512
PROGRESS_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Counts:
    """Prompts that are frozen, and prompts that were left out."""

    num_prompts: int
    num_too_long: int


def read_prompts(prompts: PromptsSettings) -> list[SourcePrompt]:
    """All prompts of the source. Raises PromptsError."""
    sources = list(source_prompts(read_source(prompts), prompts))
    if not sources:
        raise PromptsError(f"prompts.path = {prompts.path!r}: there are no prompts in it")
    return sources


def freeze(
    run_dir: RunDir,
    settings: RunSettings,
    sources: Sequence[SourcePrompt],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Counts:
    """Write the prompts of at most `max_tokens`. Raises PromptsError."""
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
    return Counts(num_prompts, num_too_long)


def check_frozen(run_dir: RunDir, settings: RunSettings, max_tokens: int) -> Counts:
    """The prompts that another run froze. Raises UsageError where one is too long for `settings`.

    It cannot be left out: the order of the prompts depends on how many there are.
    """
    lengths = [len(prompt.token_ids) for prompt in read_rows(run_dir.prompts, Prompt)]
    too_long = sum(length > max_tokens for length in lengths)
    if too_long:
        raise UsageError(
            f"{too_long} of {len(lengths)} prompts have more than the {max_tokens} tokens that"
            f" sample.max_new_tokens = {settings.sample.max_new_tokens} leaves; lower it"
        )
    return Counts(len(lengths), 0)


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


def _chunks(sources: Sequence[SourcePrompt]) -> Iterator[Sequence[SourcePrompt]]:
    """Tokenized together; says on standard output how far it is."""
    done, last = 0, float("-inf")
    for start in range(0, len(sources), CHUNK):
        chunk = sources[start : start + CHUNK]
        yield chunk
        done += len(chunk)
        if done == len(sources) or clock.monotonic() - last > PROGRESS_INTERVAL_S:
            last = clock.monotonic()
            print(f"progress {done} {len(sources)}", flush=True)  # noqa: T201

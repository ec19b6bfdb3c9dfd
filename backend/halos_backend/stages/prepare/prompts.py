"""Freezes a run's prompts: read, rendered with the chat template, measured, written down once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from halos_backend import atomic, clock
from halos_backend.config.schema import PromptsSettings, RunSettings
from halos_backend.errors import PromptsError, UsageError
from halos_backend.findings import Finding
from halos_backend.records import Prompt, encode_row, read_rows, write_rows
from halos_backend.stages.chat import prompt_token_ids
from halos_backend.stages.model_limits import has_embedding
from halos_backend.stages.models import one_line
from halos_backend.stages.prepare.model_checks import describe_token, resizing, unknown
from halos_backend.stages.prepare.rows import SourcePrompt, non_finite_columns, source_prompts
from halos_backend.stages.prepare.source import read_source
from halos_backend.store.run_dir import RunDir

CHUNK = 512
PROGRESS_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Counts:
    """Counts prompts that are frozen, and prompts that were left out."""

    num_prompts: int
    num_too_long: int


def read_prompts(prompts: PromptsSettings) -> list[SourcePrompt]:
    """Returns all prompts of the source. Raises PromptsError."""
    sources = list(source_prompts(read_source(prompts), prompts))
    if not sources:
        raise PromptsError(f"prompts.path = {prompts.path!r}: there are no prompts in it")
    return sources


def find_non_finite(sources: Sequence[SourcePrompt]) -> list[Finding]:
    """Warns of each column with a number that JSON does not have."""
    rows: dict[str, list[str]] = {}
    for source in sources:
        for name in non_finite_columns(source):
            rows.setdefault(name, []).append(source.where)
    return [
        Finding(
            "warning",
            "prompts",
            f"column {name!r} is NaN or infinite in {len(where)} of {len(sources)} prompts (the"
            f" first is {where[0]})",
            "reward functions get None there, so write null or a number",
        )
        for name, where in rows.items()
    ]


def freeze_held_out(
    run_dir: RunDir,
    settings: RunSettings,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    config: PretrainedConfig,
    *,
    is_fork: bool,
) -> int:
    """Writes the prompts on which the result is scored; of those that a fork brings along the ones
    that fit.

    Returns how many. Raises PromptsError.
    """
    if is_fork and run_dir.held_out.exists():
        rows = list(read_rows(run_dir.held_out, Prompt))
        return write_rows(run_dir.held_out, [r for r in rows if len(r.token_ids) <= max_tokens])
    prompts = settings.prompts
    held_out = prompts.model_copy(
        update={"path": prompts.held_out, "split": prompts.held_out_split}
    )
    settings = settings.model_copy(update={"prompts": held_out})
    try:
        sources = read_prompts(held_out)[: prompts.num_held_out]
        path = run_dir.held_out
        return freeze(path, settings, sources, tokenizer, max_tokens, config).num_prompts
    except PromptsError as error:  # its words are for those that are trained on
        raise PromptsError(_of_held_out(error.text), fix=_of_held_out(error.fix)) from error


def _of_held_out(words: str) -> str:
    return words.replace("prompts.path", "prompts.held_out").replace(
        "prompts.split", "prompts.held_out_split"
    )


def freeze(
    path: Path,
    settings: RunSettings,
    sources: Sequence[SourcePrompt],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    config: PretrainedConfig,
) -> Counts:
    """Writes the prompts of at most `max_tokens`. Raises PromptsError.

    `config` is the policy's, by which a token without an embedding is found.
    """
    num_prompts = num_too_long = 0
    with path.open("wb") as file:
        for chunk in _chunks(sources):
            encoded = _encoded(tokenizer, chunk, settings)
            for source, token_ids in zip(chunk, encoded, strict=True):
                if len(token_ids) > max_tokens:
                    num_too_long += 1
                    continue
                if not has_embedding(last := max(token_ids), config):
                    raise PromptsError(
                        f"{source.where}: {_template_name(settings)} makes token"
                        f" {describe_token(last, tokenizer)} of it, which {unknown(config)}",
                        fix=resizing(last),
                    )
                num_prompts += 1
                file.write(encode_row(_prompt(source, token_ids)))
    atomic.fsync_file(path)
    if num_prompts == 0:
        raise PromptsError(
            f"{settings.prompts.path}: all {num_too_long} prompts are longer than {max_tokens}"
            " tokens",
            fix="lower sample.max_new_tokens or raise prompts.max_tokens",
        )
    return Counts(num_prompts, num_too_long)


def check_frozen(run_dir: RunDir, settings: RunSettings, max_tokens: int) -> Counts:
    """Checks the prompts that another run froze. Raises UsageError where one is too long for
    `settings`.

    It cannot be left out: the order of the prompts depends on how many there are.
    """
    lengths = [len(prompt.token_ids) for prompt in read_rows(run_dir.prompts, Prompt)]
    too_long = sum(length > max_tokens for length in lengths)
    if too_long:
        raise UsageError(
            f"{too_long} of {len(lengths)} prompts have more than the {max_tokens} tokens that"
            f" sample.max_new_tokens = {settings.sample.max_new_tokens} leaves",
            fix="lower it",
        )
    return Counts(len(lengths), 0)


def _encoded(
    tokenizer: PreTrainedTokenizerBase, chunk: Sequence[SourcePrompt], settings: RunSettings
) -> list[list[int]]:
    """Returns token ids of each prompt; one that the chat template cannot render is found and
    named.
    """
    try:
        encoded = prompt_token_ids(
            tokenizer,
            [source.messages for source in chunk],
            [source.tools for source in chunk],
        )
    except TemplateSyntaxError as error:
        raise PromptsError(
            f"{_template_name(settings)} is no Jinja template: line {error.lineno}:"
            f" {error.message}",
            fix="mend it",
        ) from error
    except Exception as error:  # the template is somebody else's program
        if len(chunk) == 1:
            raise _not_rendered(chunk[0], error, settings) from error
        return [ids for source in chunk for ids in _encoded(tokenizer, [source], settings)]
    for source, token_ids in zip(chunk, encoded, strict=True):
        if not token_ids:
            raise PromptsError(
                f"{source.where}: {_template_name(settings)} makes no tokens of the conversation",
                fix="mend the template",
            )
    return encoded


def _not_rendered(source: SourcePrompt, error: Exception, settings: RunSettings) -> PromptsError:
    """Returns why: a template may refuse a conversation, use what it has not, or render no text at
    all.
    """
    name = _template_name(settings)
    if isinstance(error, TemplateError) and not isinstance(error, UndefinedError):
        return PromptsError(f"{source.where}: {name} refuses the conversation: {error.message}")
    return PromptsError(
        f"{source.where}: {name} fails on the conversation: {one_line(error)}",
        fix="it is given messages, add_generation_prompt, and no tools but those of a column of"
        " that name",
    )


def _template_name(settings: RunSettings) -> str:
    path = settings.policy.chat_template
    return "the policy's chat template" if path is None else f"policy.chat_template = {path!r}"


def _prompt(source: SourcePrompt, token_ids: list[int]) -> Prompt:
    ids = tuple(token_ids)
    return Prompt(source.prompt_id, source.messages, ids, source.columns, source.tools)


def _chunks(sources: Sequence[SourcePrompt]) -> Iterator[Sequence[SourcePrompt]]:
    """Yields prompts that are tokenized together; says on standard output how far it is."""
    done, last = 0, float("-inf")
    for start in range(0, len(sources), CHUNK):
        chunk = sources[start : start + CHUNK]
        yield chunk
        done += len(chunk)
        if done == len(sources) or clock.monotonic() - last > PROGRESS_INTERVAL_S:
            last = clock.monotonic()
            print(f"progress {done} {len(sources)}", flush=True)  # noqa: T201

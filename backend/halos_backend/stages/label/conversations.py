"""Owns how a prompt and its completion become a reward model's tokens: by its own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from halos_backend.errors import UsageError
from halos_backend.stages.chat import render
from halos_backend.stages.label.judge import LabelRow, Unscored, short_reason
from halos_backend.stages.models import read_tokenizer


def load_judge_tokenizer(path: str, *, trust_remote_code: bool) -> Any:
    """Returns the reward model's tokenizer. Raises UsageError when it has no chat template."""
    tokenizer = read_tokenizer(path, trust_remote_code=trust_remote_code)
    if tokenizer.chat_template is None:
        raise UsageError(
            f"the tokenizer of the reward model {path} has no chat template: add the"
            " chat_template.jinja that the model was trained with to its directory"
        )
    return tokenizer


def tokenize_conversations(
    tokenizer: Any, rows: Sequence[LabelRow], *, max_tokens: int
) -> list[list[int] | Unscored]:
    """Returns token ids per row, or why it cannot be judged.

    The completion is what the policy said, whole, as the assistant's message. The template writes
    the special tokens, so the tokenizer adds none: a second BOS would shift every reward.
    """
    texts = [_render(tokenizer, row) for row in rows]
    rendered = [text for text in texts if isinstance(text, str)]
    token_ids = iter(
        tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]
        if rendered
        else ()
    )
    return [
        text if isinstance(text, Unscored) else _fitting(next(token_ids), max_tokens)
        for text in texts
    ]


def rows_of_conversations(
    tokenized: Sequence[list[int] | Unscored],
) -> dict[int, tuple[int, ...]]:
    """Returns the rows that are to be scored, and with each all rows that are the same token by
    token.

    Scored on its own each would get a reward of its own: a reward depends on its batch's shape by
    the dtype's rounding, of which a group's advantages would make a difference.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for index, ids in enumerate(tokenized):
        if not isinstance(ids, Unscored):
            rows.setdefault(tuple(ids), []).append(index)
    return {same[0]: tuple(same) for same in rows.values()}


def known_of_conversations(
    rows: Mapping[int, Sequence[int]], known: Mapping[int, float]
) -> dict[int, float]:
    """Returns the known rewards of the rows that are to be scored: those of any of the same."""
    return {
        first: known[next(row for row in same if row in known)]
        for first, same in rows.items()
        if any(row in known for row in same)
    }


def _render(tokenizer: Any, row: LabelRow) -> str | Unscored:
    messages = [*row.prompt, {"role": "assistant", "content": row.text}]
    try:
        return render(tokenizer, messages, tools=row.tools, add_generation_prompt=False)
    except TemplateError as error:
        return Unscored(
            short_reason(f"the reward model's chat template refused it: {error}"), is_error=True
        )


def _fitting(token_ids: list[int], max_tokens: int) -> list[int] | Unscored:
    if not token_ids:
        return Unscored("the reward model's chat template made no tokens of it", is_error=True)
    return Unscored("too long") if len(token_ids) > max_tokens else token_ids

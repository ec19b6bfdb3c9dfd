"""Renders a conversation as the token ids that the policy continues."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING

from halos_backend.config.losses import CSFT, Loss
from halos_backend.records import Message, Tools, part_texts
from halos_backend.stages.train.losses.csft import control_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # 0.6 s that a built demo need not wait

PROBE = "a part of a message"


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    tools: Sequence[Tools] | None = None,
) -> list[list[int]]:
    """Returns token ids of each conversation under the chat template, with the generation prompt.

    The template writes the special tokens, so the tokenizer adds none. `tools` has those of each
    conversation.
    """
    if not conversations:
        return []
    texts = [
        render(tokenizer, conversation, tools=own, add_generation_prompt=True)
        for conversation, own in zip(conversations, tools or repeat(()), strict=False)
    ]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return encoded


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    tools: Tools = (),
    add_generation_prompt: bool,
) -> str:
    """Returns the conversation under the tokenizer's chat template, which sees every field of its
    messages.

    Parts of a content are joined, by line breaks as vLLM does, for a template that reads none.
    """
    shown = list(messages)
    has_parts = any(isinstance(message.get("content"), list) for message in messages)
    if has_parts and not _reads_parts(tokenizer):
        shown = [
            {**message, "content": part_texts(message)} if "content" in message else message
            for message in messages
        ]
    text: str = tokenizer.apply_chat_template(
        shown,
        tools=list(tools) or None,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
    )
    return text


def _reads_parts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Says whether the template writes the text of a part, rather than the list as Python
    shows it.
    """
    from jinja2 import TemplateError  # like transformers, it is imported only where it is needed

    probe = [{"role": "user", "content": [{"type": "text", "text": PROBE}]}]
    try:
        text = tokenizer.apply_chat_template(probe, tokenize=False)
    except (TemplateError, TypeError, ValueError):
        return False
    return PROBE in text and f"'{PROBE}'" not in text and f'"{PROBE}"' not in text


def sampling_prefix(tokenizer: PreTrainedTokenizerBase, loss: Loss) -> tuple[int, ...]:
    """Returns token ids put after every prompt: conditional SFT asks for a desirable completion."""
    if not isinstance(loss, CSFT):
        return ()
    text = control_prefix(
        is_desirable=True, chosen=loss.chosen_prefix, rejected=loss.rejected_prefix
    )
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

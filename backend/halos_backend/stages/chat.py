"""Renders a conversation as the token ids that the policy continues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from halos_backend.config.losses import CSFT, Loss
from halos_backend.records import Message
from halos_backend.stages.train.losses.csft import control_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # 0.6 s that a built demo need not wait


def prompt_token_ids(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]
) -> list[list[int]]:
    """Token ids of each conversation under the chat template, with the generation prompt.

    The template writes the special tokens, so the tokenizer adds none.
    """
    if not conversations:
        return []
    texts = [
        tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in conversation],
            tokenize=False,
            add_generation_prompt=True,
        )
        for conversation in conversations
    ]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return encoded


def sampling_prefix(tokenizer: PreTrainedTokenizerBase, loss: Loss) -> tuple[int, ...]:
    """Token ids put after every prompt: conditional SFT asks for a desirable completion."""
    if not isinstance(loss, CSFT):
        return ()
    text = control_prefix(
        is_desirable=True, chosen=loss.chosen_prefix, rejected=loss.rejected_prefix
    )
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

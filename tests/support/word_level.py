"""Makes the tokenizers of all tests: one token for each word, or for each letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast


def word_level(
    tokens: Sequence[str], splits: Any, *, unknown: str, before: Any = None, **special: Any
) -> PreTrainedTokenizerFast:
    """The ids are places in `tokens`. `splits` makes words of a text, `before` puts special tokens
    to them; `special` are the tokens and the template that Transformers is to know.
    """
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = splits
    if before is not None:
        tokenizer.post_processor = before
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)

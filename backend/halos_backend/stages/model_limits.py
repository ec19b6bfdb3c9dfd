"""Knows what a model can take: tokens that it has a row for, and how many of them it sees."""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
"""Names layers, as configurations do, that find their past by the attention mask."""
UNSCALED_ROPE = {"linear", "dynamic"}
"""Lists scalings of rotary positions whose factor `max_position_embeddings` does not include; that
of yarn, longrope and llama3 does. Source: vLLM 0.32, `_get_and_verify_max_len`.
"""
NO_LIMIT = 1 << 20
"""Is the number of tokens of a model that knows no limit."""


def has_embedding(token_id: int, config: PretrainedConfig) -> bool:
    """Says whether the model knows the token."""
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    return token_id >= 0 and (not isinstance(vocabulary, int) or token_id < vocabulary)


def filling_id(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> int:
    """Returns what fills rows where a mask hides it: the tokenizer's own, if the model
    knows that.
    """
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None and has_embedding(token_id, config):
            return int(token_id)
    return 0


def context_length(config: PretrainedConfig) -> int:
    """Counts the tokens that a model of the configuration sees, prompt and completion together.

    Windows and ALiBi set no limit. What a table of positions takes for itself, `usable_context`
    knows.
    """
    text_config = config.get_text_config()
    if getattr(text_config, "alibi", False):
        return NO_LIMIT
    length = getattr(text_config, "max_position_embeddings", None)
    length = length or getattr(text_config, "max_seq_len", None) or NO_LIMIT
    return int(length * _rope_factor(text_config))


def usable_context(model: PreTrainedModel) -> int:
    """Counts the tokens that the model, or its outline, sees.

    RoBERTa and its kin count positions from behind the padding id, so that their table has fewer
    places than rows.
    """
    length = context_length(model.config)
    tables = [
        module.num_embeddings - module.padding_idx - 1
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and "position" in name.rpartition(".")[2]
        and module.padding_idx is not None
    ]
    return min([length, *tables])


def is_recurrent(model: PreTrainedModel) -> bool:
    """Says whether layers carry a state from token to token (Mamba, convolutions, linear
    attention).
    """
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return bool(getattr(model, "_is_stateful", False)) or not ATTENTION_LAYERS.issuperset(kinds)


def _rope_factor(config: PretrainedConfig) -> float:
    """Returns by how much positions are stretched beyond the configuration's own limit."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if config.model_type.startswith("gemma3"):  # whose limit has the factor in it
        return 1.0
    factors = [part.get("factor") for part in parts if part.get("rope_type") in UNSCALED_ROPE]
    return max([1.0, *(float(factor) for factor in factors if factor)])

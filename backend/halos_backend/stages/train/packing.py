"""Packs the sequences of a forward pass into one row without padding, where a model allows it.

Everything but attention works token by token; attention runs over each sequence alone. A model may
mix tokens in other ways too (a window, a state), so it is asked: see `pack`. On a GPU one call of
the attention kernel per sequence costs more than the padding it saves, so rows are padded there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

PACKED = "halos_packed"
"""The name of our attention among transformers' own."""

TOLERANCE = 1e-5
"""Of hidden states packed and alone, relative to the largest: fp32 differs by some 1e-6."""


def pack(model: PreTrainedModel, device: torch.device) -> None:
    """Let the model take packed rows, on that device, if it gives the same hidden states for them.

    It must be on a CPU where the device is one.
    """
    config = model.config.get_text_config()
    if is_packed(model) or device.type != "cpu" or not _sees_whole_sequences(config):
        return
    own = model.config._attn_implementation
    if own != "sdpa":
        return
    probe = ([3, 1, 2], [1, 3, 2, 0], [2])
    with torch.no_grad():
        alone = [_hidden_alone(model, ids) for ids in probe]
        model.set_attn_implementation(PACKED)
        if not is_packed(model):
            return
        try:
            packed = packed_hidden_states(
                model, torch.tensor([list(chain(*probe))]), [len(ids) for ids in probe]
            )
        except (AttributeError, TypeError, ValueError, RuntimeError):
            packed = None
    expected = torch.cat(alone, dim=1)
    atol = TOLERANCE * float(expected.abs().max())
    if packed is None or not torch.allclose(packed, expected, rtol=0, atol=atol):
        model.set_attn_implementation(own)


def is_packed(model: PreTrainedModel) -> bool:
    """Whether the model's forward passes take packed rows."""
    return bool(model.config.get_text_config()._attn_implementation == PACKED)


def packed_hidden_states(
    model: PreTrainedModel, input_ids: Tensor, lengths: Sequence[int]
) -> Tensor:
    """The decoder's last hidden states, (1, tokens, width), of sequences of these lengths in a row.

    `input_ids` is (1, tokens).
    """
    positions = torch.cat([torch.arange(length) for length in lengths])
    decoder: Any = model.get_decoder()
    hidden: Tensor = decoder(
        input_ids=input_ids,
        position_ids=positions.unsqueeze(0).to(input_ids.device),
        attention_mask=None,
        use_cache=False,
        packed_lengths=tuple(lengths),
    ).last_hidden_state
    return hidden


def _sees_whole_sequences(config: PretrainedConfig) -> bool:
    """A window would not show on the few tokens of a probe."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and getattr(config, "sliding_window", None) is None


def _hidden_alone(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    decoder: Any = model.get_decoder()
    hidden: Tensor = decoder(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
    return hidden


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_lengths: tuple[int, ...] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each sequence to itself; query, key and value are (1, heads, tokens, d).

    Without `packed_lengths` each row is one sequence.
    """
    if packed_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    outputs = [
        sdpa_attention_forward(module, *parts, None, **kwargs)[0]
        for parts in zip(
            *(tensor.split(packed_lengths, dim=2) for tensor in (query, key, value)), strict=True
        )
    ]
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(PACKED, _attention)

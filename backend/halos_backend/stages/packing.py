"""Packs the sequences of a forward pass into one row without padding, where a model allows it.

Completions of one prompt share its tokens. Everything but attention works token by token; attention
runs over each sequence alone. A model may mix tokens in other ways too (a window, a state), so it
is asked: see `pack`. On a GPU one call of the attention kernel per sequence costs more than the
padding it saves, so rows are padded there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

PACKED = "halos_packed"
"""Is the name of our attention among transformers' own."""

PROBE = (((3, 1, 2), (1, 3)), ((1, 3), (2, 0)), ((3, 1, 2), (0,)), ((2,), ()))
"""Holds beginnings and rests, two of them with the same beginning."""

TOLERANCE = 1e-5
"""Is how far hidden states packed and alone may differ, relative to the largest: fp32 differs by
some 1e-6.
"""


def pack(model: PreTrainedModel, device: torch.device) -> None:
    """Lets the model take packed rows, on that device, if it gives the same hidden states for them.

    It must be on a CPU where the device is one.
    """
    config = model.config.get_text_config()
    if is_packed(model) or device.type != "cpu" or not _sees_whole_sequences(config):
        return
    own = model.config._attn_implementation
    if own != "sdpa":
        return
    with torch.no_grad():
        alone = [_hidden_alone(model, (*beginning, *rest)) for beginning, rest in PROBE]
        model.set_attn_implementation(PACKED)
        if not is_packed(model):
            return
        row = pack_row(PROBE, device)
        try:
            packed = packed_hidden_states(model, row)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            packed = None
    if packed is not None:
        packed = torch.cat([packed[:, span.places] for span in row.spans], dim=1)
    if packed is None or not is_same(packed, torch.cat(alone, dim=1)):
        model.set_attn_implementation(own)


def is_same(found: Tensor, expected: Tensor) -> bool:
    """Says whether rounding explains how they differ; NaN is never the same."""
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())


def is_packed(model: PreTrainedModel) -> bool:
    """Says whether the model's forward passes take packed rows."""
    return bool(model.config.get_text_config()._attn_implementation == PACKED)


@dataclass(frozen=True)
class Span:
    """Says where a sequence is in a packed row: [start, stop) is its beginning, then its rest."""

    start: int
    stop: int
    rest_start: int
    rest_stop: int
    brings_beginning: bool
    """Says whether its beginning is there for it; otherwise it is an earlier sequence's."""

    def of(self, tensor: Tensor) -> Tensor:
        """Returns the sequence's part of (1, heads, tokens, d)."""
        if self.brings_beginning:
            return tensor[:, :, self.start : self.rest_stop]
        parts = (slice(self.start, self.stop), slice(self.rest_start, self.rest_stop))
        return torch.cat([tensor[:, :, part] for part in parts], dim=2)

    @property
    def places(self) -> list[int]:
        """Returns places of the sequence's tokens in the row."""
        return [*range(self.start, self.stop), *range(self.rest_start, self.rest_stop)]


@dataclass(frozen=True)
class PackedRow:
    """Holds sequences in one row without padding, equal beginnings once. Tensors are (1,
    tokens).
    """

    input_ids: Tensor
    position_ids: Tensor
    spans: tuple[Span, ...]


def pack_row(
    sequences: Iterable[tuple[tuple[int, ...], tuple[int, ...]]], device: torch.device
) -> PackedRow:
    """Packs sequences: each is a beginning, which it may share, and a rest."""
    ids: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    places: dict[tuple[int, ...], int] = {}
    for beginning, rest in sequences:
        brings = beginning not in places
        if brings:
            places[beginning] = len(ids)
            ids += beginning
            positions += range(len(beginning))
        start, length = places[beginning], len(beginning)
        spans.append(Span(start, start + length, len(ids), len(ids) + len(rest), brings))
        ids += rest
        positions += range(length, length + len(rest))
    return PackedRow(
        torch.tensor([ids]).to(device), torch.tensor([positions]).to(device), tuple(spans)
    )


def packed_hidden_states(model: PreTrainedModel, row: PackedRow) -> Tensor:
    """Returns the decoder's last hidden states, (1, tokens, width)."""
    decoder: Any = model.get_decoder()
    hidden: Tensor = decoder(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        attention_mask=None,
        use_cache=False,
        packed_spans=row.spans,
    ).last_hidden_state
    return hidden


def _sees_whole_sequences(config: PretrainedConfig) -> bool:
    """Says whether the model sees whole sequences; a window would not show on the few tokens of a
    probe.
    """
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
    packed_spans: tuple[Span, ...] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes causal attention of each sequence to itself; query, key and value are (1, heads,
    tokens, d).

    Without `packed_spans` each row is one sequence. A shared beginning is attended to once for each
    sequence, which costs little: all else, most of the work, is done once for it.
    """
    if packed_spans is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    outputs = []
    for span in packed_spans:
        parts = (span.of(tensor) for tensor in (query, key, value))
        if span.brings_beginning and span.rest_stop > span.start:
            outputs.append(sdpa_attention_forward(module, *parts, None, **kwargs)[0])
        elif span.rest_stop > span.rest_start:
            output, _ = sdpa_attention_forward(module, *parts, None, **kwargs)
            outputs.append(output[:, span.stop - span.start :])
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(PACKED, _attention)

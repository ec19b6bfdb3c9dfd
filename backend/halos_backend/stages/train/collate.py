"""Puts the sequences of a forward pass into tensors: in rows or packed, masks always explicit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from halos_backend.stages.packing import PackedRow, pack_row
from halos_backend.stages.train.examples import TokenSequence


@dataclass(frozen=True)
class PaddedRows:
    """Holds padded rows.

    `input_ids` and `attention_mask` are (rows, tokens), right-padded. `positions` (n,) are the
    places in the flattened (rows * tokens) that predict the completions' tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Holds the sequences of one forward pass.

    Of the completions' tokens, one after the other, `targets` (n,) are the ids and `slots` (n,)
    their places in a flattened (rows, completion tokens), whose `completion_mask` is bool;
    `temperatures` (n,) are what logits are divided by, None where all are 1.
    """

    sequences: tuple[TokenSequence, ...]
    completion_mask: Tensor
    targets: Tensor
    slots: Tensor
    pad_token_id: int
    temperatures: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.targets.device

    def unflatten(self, flat: Tensor) -> Tensor:
        """Returns (n,) values of the completions' tokens as (rows, completion tokens), 0
        elsewhere.
        """
        padded = flat.new_zeros(self.completion_mask.numel())
        return padded.index_copy(0, self.slots, flat).view(self.completion_mask.shape)

    @property
    def sampler_logps(self) -> Tensor:
        """Is the sampler's log-probabilities, (rows, completion tokens), 0 outside the mask."""
        values = [value for sequence in self.sequences for value in sequence.sampler_logps]
        return self.unflatten(torch.tensor(values, device=self.device))

    @cached_property
    def padded(self) -> PaddedRows:
        lengths = torch.tensor([len(sequence) for sequence in self.sequences]).unsqueeze(-1)
        width = int(lengths.max())
        ids = torch.tensor(
            [
                [*s.prompt, *s.completion, *[self.pad_token_id] * (width - len(s))]
                for s in self.sequences
            ]
        )
        return PaddedRows(
            input_ids=ids.to(self.device),
            attention_mask=(torch.arange(width) < lengths).long().to(self.device),
            positions=torch.cat(
                [
                    torch.arange(len(s.completion)) + (row * width + len(s.prompt) - 1)
                    for row, s in enumerate(self.sequences)
                ]
            ).to(self.device),
        )

    @cached_property
    def packed(self) -> tuple[PackedRow, Tensor]:
        """Returns the sequences in one row, and the places in it that predict the completions'
        tokens.
        """
        row = pack_row([(s.prompt, s.completion) for s in self.sequences], self.device)
        places = [
            place
            for span in row.spans
            for place in (span.stop - 1, *range(span.rest_start, span.rest_stop - 1))
            if span.rest_stop > span.rest_start
        ]
        return row, torch.tensor(places).to(self.device)


def collate(
    sequences: Sequence[TokenSequence], *, pad_token_id: int, device: torch.device
) -> TokenBatch:
    """Collates sequences; all index work happens on the CPU, where it waits for nothing."""
    lengths = torch.tensor([len(sequence.completion) for sequence in sequences]).unsqueeze(-1)
    completion_mask = torch.arange(int(lengths.max())) < lengths
    targets = [token for sequence in sequences for token in sequence.completion]
    temperatures = None
    if any(sequence.temperature != 1.0 for sequence in sequences):
        own = torch.tensor([sequence.temperature for sequence in sequences])
        temperatures = own.repeat_interleave(lengths.squeeze(-1)).to(device)
    return TokenBatch(
        sequences=tuple(sequences),
        completion_mask=completion_mask.to(device),
        targets=torch.tensor(targets, dtype=torch.long).to(device),
        slots=completion_mask.flatten().nonzero().squeeze(-1).to(device),
        pad_token_id=pad_token_id,
        temperatures=temperatures,
    )

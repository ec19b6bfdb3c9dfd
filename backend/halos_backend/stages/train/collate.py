"""Puts the sequences of a forward pass into tensors: right-padded, true lengths, explicit masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halos_backend.stages.train.examples import TokenSequence


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of one forward pass.

    `input_ids` and `attention_mask` are (rows, tokens). Of the completions' tokens, one after the
    other, `targets` (n,) are the ids, `positions` (n,) the places in the flattened (rows * tokens)
    that predict them, and `slots` (n,) their places in a flattened (rows, completion tokens), whose
    `completion_mask` is bool.
    """

    sequences: tuple[TokenSequence, ...]
    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor
    targets: Tensor
    positions: Tensor
    slots: Tensor

    def unflatten(self, flat: Tensor) -> Tensor:
        """(n,) values of the completions' tokens as (rows, completion tokens), 0 elsewhere."""
        padded = flat.new_zeros(self.completion_mask.numel())
        return padded.index_copy(0, self.slots, flat).view(self.completion_mask.shape)


def collate(
    sequences: Sequence[TokenSequence], *, pad_token_id: int, device: torch.device
) -> TokenBatch:
    """All index work happens on the CPU, where it waits for nothing."""
    prompts = torch.tensor([len(sequence.prompt) for sequence in sequences]).unsqueeze(-1)
    completions = torch.tensor([len(sequence.completion) for sequence in sequences]).unsqueeze(-1)
    width = int((prompts + completions).max())
    input_ids = torch.tensor(
        [
            [*sequence.prompt, *sequence.completion, *[pad_token_id] * (width - len(sequence))]
            for sequence in sequences
        ]
    )
    columns = torch.arange(width)
    attention_mask = (columns < prompts + completions).long()
    is_target = (columns >= prompts) & (columns < prompts + completions)
    completion_mask = torch.arange(int(completions.max())) < completions
    target_places = is_target.flatten().nonzero().squeeze(-1)
    return TokenBatch(
        sequences=tuple(sequences),
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        completion_mask=completion_mask.to(device),
        targets=input_ids.flatten()[target_places].to(device),
        positions=(target_places - 1).to(device),
        slots=completion_mask.flatten().nonzero().squeeze(-1).to(device),
    )

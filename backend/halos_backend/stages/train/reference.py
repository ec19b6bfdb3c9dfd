"""Log-probabilities under weights that are not being trained: once per round, or of a follower.

`precompute` scores every sequence of a round once, in large batches dealt out over the ranks; all
ranks then hold the whole table. `FollowingReference` is humanline's: the policy of a few steps ago.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from halos_backend.errors import StageError
from halos_backend.stages.packing import is_packed, pack
from halos_backend.stages.train.batches import alone, microbatches
from halos_backend.stages.train.collate import TokenBatch, collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import (
    CHUNK_ELEMENTS,
    has_plain_head,
    run_idle,
    token_logps,
)
from halos_backend.stages.train.ranks import Ranks
from halos_backend.stages.train.sharding import is_sharded
from halos_backend.stages.train.trainee import Trainee

FORWARD_ONLY_FACTOR = 4
"""Without a backward pass a batch may hold this many times `microbatch_tokens`, unless that would
be more logits of a head that is not plain than are held otherwise."""


class TokenLogps(Protocol):
    """Something that knows the log-probabilities of the completions' tokens of any batch."""

    def token_logps(self, batch: TokenBatch) -> Tensor:
        """(rows, completion tokens), 0 outside the mask, without gradient."""


@dataclass(frozen=True)
class LogpsTable:
    """Precomputed log-probabilities: a sequence's are at its offset in `flat`."""

    flat: Tensor
    offsets: Mapping[TokenSequence, int]

    def token_logps(self, batch: TokenBatch) -> Tensor:
        parts = [self.of(sequence) for sequence in batch.sequences]
        return batch.unflatten(torch.cat(parts).to(batch.targets.device))

    def of(self, sequence: TokenSequence) -> Tensor:
        """The (completion tokens,) of one sequence, on the CPU."""
        start = self.offsets[sequence]
        return self.flat[start : start + len(sequence.completion)]


def precompute(
    model: PreTrainedModel,
    sequences: Iterable[TokenSequence],
    ranks: Ranks,
    *,
    pad_token_id: int,
    max_tokens: int,
    is_plain: bool,
    on_progress: Callable[[int, int], None],
    autocasts: bool = True,
) -> LogpsTable:
    """Score each distinct sequence once; every rank must call it and gets the whole table.

    `autocasts` computes in the precision of training, otherwise in that of the context.
    """
    unique = list(dict.fromkeys(sequences))
    offsets, num_tokens = {}, 0
    for sequence in unique:
        offsets[sequence] = num_tokens
        num_tokens += len(sequence.completion)
    flat = torch.zeros(num_tokens, device=ranks.device)
    unique.sort(key=len, reverse=True)
    batches = microbatches(
        unique,
        max_tokens=_forward_only_tokens(model, max_tokens, is_plain=is_plain),
        sequences=alone,
        packs=is_packed(model),
    )
    done = 0
    if is_sharded(model):  # which every rank must run equally often
        batches += [[] for _ in range(-len(batches) % ranks.count)]
    for number, members in enumerate(batches):
        done += len(members)
        if number % ranks.count != ranks.rank:
            continue
        if not members:
            with torch.no_grad():
                run_idle(model, pad_token_id=pad_token_id, device=ranks.device, is_plain=is_plain)
            continue
        batch = collate(members, pad_token_id=pad_token_id, device=ranks.device)
        with torch.no_grad(), ranks.autocast() if autocasts else nullcontext():
            values = token_logps(model, batch, is_plain=is_plain)
        for sequence, row in zip(members, values, strict=True):
            start, length = offsets[sequence], len(sequence.completion)
            flat[start : start + length] = row[:length]
        on_progress(done, len(unique))
    return LogpsTable(ranks.sum(flat).cpu(), offsets)


def _forward_only_tokens(model: PreTrainedModel, max_tokens: int, *, is_plain: bool) -> int:
    """Tokens of a batch. A head that is not plain makes the logits of all its rows at once."""
    budget = FORWARD_ONLY_FACTOR * max_tokens
    if is_plain:
        return budget
    return min(budget, max(1, CHUNK_ELEMENTS // model.config.get_text_config().vocab_size))


def frozen_token_logps(
    model: PreTrainedModel, batch: TokenBatch, ranks: Ranks, *, is_plain: bool
) -> Tensor:
    with torch.no_grad(), ranks.autocast():
        return token_logps(model, batch, is_plain=is_plain)


@dataclass
class FollowingReference:
    """Humanline's reference: it takes the policy's weights every so many steps."""

    model: PreTrainedModel
    ranks: Ranks
    sync_every: int
    is_synced: bool = False
    is_plain: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_plain = has_plain_head(self.model)
        if self.is_plain:
            pack(self.model, self.ranks.device)

    def token_logps(self, batch: TokenBatch) -> Tensor:
        return frozen_token_logps(self.model, batch, self.ranks, is_plain=self.is_plain)

    def after_step(self, number: int, policy: Trainee) -> None:
        """Follow the policy when optimizer step `number` (from 1) is one to follow at."""
        if number % self.sync_every == 0:
            self.sync(policy)

    def sync(self, policy: Trainee) -> None:
        """Become the policy as it is now, adapters included."""
        if not self.is_synced:
            self.model = copy.deepcopy(policy.model)
            self.is_plain = policy.is_plain
            self.is_synced = True
            return
        self.restore({name: weight.detach() for name, weight in policy.weights.items()}, policy)

    def weights(self, policy: Trainee) -> dict[str, Tensor]:
        """What `restore` needs; empty before the first sync."""
        if not self.is_synced:
            return {}
        own = dict(self.model.named_parameters())
        return {name: own[name].detach() for name in policy.weights}

    def restore(self, weights: Mapping[str, Tensor], policy: Trainee) -> None:
        """Become the policy with these trained weights."""
        if not self.is_synced:
            self.sync(policy)
        own = dict(self.model.named_parameters())
        if weights.keys() - own.keys():
            raise StageError("the saved reference is of another model than the policy")
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

"""Computes log-probabilities under weights that are not trained: once per round, or of a follower.

`precompute` scores every sequence of a round once, in large batches dealt out over the ranks; all
ranks then hold the whole table. `FollowingReference` is humanline's: the policy of a few steps ago.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from halos_backend.errors import StageError
from halos_backend.stages.packing import is_packed
from halos_backend.stages.train.batches import alone, microbatches
from halos_backend.stages.train.collate import TokenBatch, collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import CHUNK_ELEMENTS, idle_batch, token_logps
from halos_backend.stages.train.ranks import TrainRanks
from halos_backend.stages.train.sharding import is_sharded
from halos_backend.stages.train.trainee import Trainee

FORWARD_ONLY_FACTOR = 4
"""Is how many times `microbatch_tokens` a batch without a backward pass may hold.

It holds less where that would be more logits of a head that is not plain than are held otherwise.
"""


class TokenLogps(Protocol):
    """Knows the log-probabilities of the completions' tokens of any batch."""

    def token_logps(self, batch: TokenBatch) -> Tensor:
        """Returns (rows, completion tokens), 0 outside the mask, without gradient."""


@dataclass(frozen=True)
class TokenTable:
    """Holds a number for each token of completions: a sequence's are at its offset in `flat`."""

    flat: Tensor
    offsets: Mapping[TokenSequence, int]

    def of(self, sequence: TokenSequence) -> Tensor:
        """Returns the (completion tokens,) of one sequence, on the CPU."""
        start = self.offsets[sequence]
        return self.flat[start : start + len(sequence.completion)]


class LogpsTable(TokenTable):
    """Looks up precomputed log-probabilities."""

    def token_logps(self, batch: TokenBatch) -> Tensor:
        parts = [self.of(sequence) for sequence in batch.sequences]
        return batch.unflatten(torch.cat(parts).to(batch.targets.device))


@dataclass(frozen=True)
class AtTemperatureOne:
    """Looks up what was computed of the same sequences at temperature 1."""

    table: LogpsTable

    def token_logps(self, batch: TokenBatch) -> Tensor:
        parts = [self.table.of(replace(s, temperature=1.0)) for s in batch.sequences]
        return batch.unflatten(torch.cat(parts).to(batch.targets.device))


@dataclass(frozen=True)
class FrozenModel:
    """Is a model in evaluation; `is_plain` is `has_plain_head(model)`."""

    model: PreTrainedModel
    is_plain: bool


def precompute(
    model: PreTrainedModel,
    sequences: Iterable[TokenSequence],
    ranks: TrainRanks,
    *,
    pad_token_id: int,
    max_tokens: int,
    is_plain: bool,
    on_progress: Callable[[int, int], None],
    autocasts: bool = True,
) -> LogpsTable:
    """Computes log-probabilities of each distinct sequence; see `per_token`.

    `autocasts` computes in the precision of training, otherwise in that of the context.
    """

    def score(batch: TokenBatch) -> Tensor:
        with ranks.autocast() if autocasts else nullcontext():
            return token_logps(model, batch, is_plain=is_plain)

    table = per_token(
        score,
        [FrozenModel(model, is_plain)],
        sequences,
        ranks,
        pad_token_id=pad_token_id,
        max_tokens=max_tokens,
        on_progress=on_progress,
    )
    return LogpsTable(table.flat, table.offsets)


def per_token(
    score: Callable[[TokenBatch], Tensor],
    models: Sequence[FrozenModel],
    sequences: Iterable[TokenSequence],
    ranks: TrainRanks,
    *,
    pad_token_id: int,
    max_tokens: int,
    on_progress: Callable[[int, int], None],
) -> TokenTable:
    """Scores each distinct sequence once; every rank must call it and gets the whole table.

    `score` runs `models`, without gradient, and gives (rows, completion tokens).
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
        max_tokens=min(_forward_only_tokens(model, max_tokens) for model in models),
        sequences=alone,
        packs=all(is_packed(model.model) for model in models),
    )
    done = 0
    if any(is_sharded(model.model) for model in models):  # every rank must run it equally often
        batches += [[] for _ in range(-len(batches) % ranks.count)]
    for number, members in enumerate(batches):
        done += len(members)
        if number % ranks.count != ranks.rank:
            continue
        with torch.no_grad():
            if not members:
                score(idle_batch(pad_token_id=pad_token_id, device=ranks.device))
                continue
            values = score(collate(members, pad_token_id=pad_token_id, device=ranks.device))
        for sequence, row in zip(members, values, strict=True):
            start, length = offsets[sequence], len(sequence.completion)
            flat[start : start + length] = row[:length]
        on_progress(done, len(unique))
    return TokenTable(ranks.sum(flat).cpu(), offsets)


def _forward_only_tokens(frozen: FrozenModel, max_tokens: int) -> int:
    """Counts the tokens of a batch. A head that is not plain makes the logits of all its rows at
    once.
    """
    budget = FORWARD_ONLY_FACTOR * max_tokens
    if frozen.is_plain:
        return budget
    vocabulary = frozen.model.config.get_text_config().vocab_size
    return min(budget, max(1, CHUNK_ELEMENTS // vocabulary))


def frozen_token_logps(
    model: PreTrainedModel, batch: TokenBatch, ranks: TrainRanks, *, is_plain: bool
) -> Tensor:
    with torch.no_grad(), ranks.autocast():
        return token_logps(model, batch, is_plain=is_plain)


@dataclass(frozen=True)
class FollowingReference:
    """Is humanline's reference: a copy of the policy that takes its weights every so many steps.

    It takes those that the step begins with, so it is one to `sync_every` steps behind: with those
    that a step ends with, every log-ratio right after would be 0. HALOs (commit 4831988) does the
    same: its trainer copies between the backward pass and the optimizer's step, and its script
    starts each round with the policy as its own reference.
    """

    model: PreTrainedModel
    is_plain: bool
    ranks: TrainRanks
    sync_every: int

    @classmethod
    def of(cls, policy: Trainee, ranks: TrainRanks, *, sync_every: int) -> FollowingReference:
        """Copies the policy as it is now, adapters included."""
        return cls(copy.deepcopy(policy.model), policy.is_plain, ranks, sync_every)

    def token_logps(self, batch: TokenBatch) -> Tensor:
        return frozen_token_logps(self.model, batch, self.ranks, is_plain=self.is_plain)

    def before_update(self, number: int, policy: Trainee) -> None:
        """Follows the policy before optimizer step `number` (from 1) changes it, if it is time."""
        if number % self.sync_every == 0:
            self.restore({name: weight.detach() for name, weight in policy.weights.items()})

    def weights(self, policy: Trainee) -> dict[str, Tensor]:
        """Returns what `restore` needs."""
        own = dict(self.model.named_parameters())
        return {name: own[name].detach() for name in policy.weights}

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Becomes the policy with these trained weights."""
        own = dict(self.model.named_parameters())
        if weights.keys() - own.keys():
            raise StageError("the saved reference is of another model than the policy")
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

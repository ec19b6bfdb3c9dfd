"""Decides which examples share an optimizer step, a rank and a forward pass.

All of it is a pure function of examples, settings and seed, so every rank works out the same plan
and knows every denominator of a step by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from halos_backend.stages.train.examples import Example, GroupedExample, TokenSequence
from halos_backend.store.prompt_order import derived_seed

Item = TypeVar("Item")
Sequences = Callable[[Item], Sequence[TokenSequence]]
"""Returns what of an item goes through the model."""


@dataclass(frozen=True)
class Step:
    """Holds the examples of one optimizer step over all ranks, in the order of the permutation.

    `mismatched` pairs each example's prompt with another prompt's completion, for KTO's KL.
    """

    examples: tuple[Example, ...]
    mismatched: tuple[TokenSequence, ...] = ()

    @property
    def sequences(self) -> list[TokenSequence]:
        return [sequence for example in self.examples for sequence in example.sequences]

    @property
    def num_completion_tokens(self) -> int:
        return sum(len(sequence.completion) for sequence in self.sequences)

    @property
    def num_tokens(self) -> int:
        return sum(len(sequence) for sequence in self.sequences)


def plan_steps(
    examples: Sequence[Example],
    *,
    batch_size: int,
    num_epochs: int,
    seed: int,
    with_mismatched: bool = False,
) -> list[Step]:
    """Plans the steps of a round: a permutation per epoch, the last partial batch kept.

    Groups are permuted as wholes and never split over steps.
    """
    batches: list[list[Example]] = []
    for epoch in range(num_epochs):
        units = _indivisible(examples)
        random.Random(derived_seed(seed, "train order", epoch)).shuffle(units)
        batches.extend(_filled(units, batch_size))
    if not with_mismatched:
        return [Step(tuple(batch)) for batch in batches]
    return [
        Step(tuple(batch), _mismatched(batch, [*batches[place + 1 :], *batches[:place]]))
        for place, batch in enumerate(batches)
    ]


def split_over_ranks(
    items: Sequence[Item], *, num_ranks: int, rank: int, length: Callable[[Item], int]
) -> list[Item]:
    """Returns this rank's items, longest first. They are dealt out by length, so that ranks have
    equal work.
    """
    by_length = sorted(items, key=length, reverse=True)
    return by_length[rank::num_ranks]


def microbatches(
    items: Sequence[Item], *, max_tokens: int, sequences: Sequences[Item], packs: bool = False
) -> list[list[Item]]:
    """Puts items, longest first, into batches that take at most `max_tokens` of a forward pass
    each.

    Packed, items with the same first prompt stand together, and a prompt's tokens are taken once a
    batch; otherwise each sequence is padded to the longest of all. One item alone may be over.
    """
    return _packed(items, max_tokens, sequences) if packs else _padded(items, max_tokens, sequences)


def _packed(items: Sequence[Item], max_tokens: int, sequences: Sequences[Item]) -> list[list[Item]]:
    places: dict[tuple[int, ...], int] = {}
    for item in items:
        places.setdefault(sequences(item)[0].prompt, len(places))
    made: list[list[Item]] = []
    prompts: set[tuple[int, ...]] = set()
    taken = 0
    for item in sorted(items, key=lambda item: places[sequences(item)[0].prompt]):
        own = {sequence.prompt for sequence in sequences(item)}
        completions = sum(len(sequence.completion) for sequence in sequences(item))
        added = completions + sum(map(len, own - prompts))
        if not made or taken + added > max_tokens:
            made.append([])
            prompts, taken = set(), 0
            added = completions + sum(map(len, own))
        made[-1].append(item)
        prompts |= own
        taken += added
    return made


def _padded(items: Sequence[Item], max_tokens: int, sequences: Sequences[Item]) -> list[list[Item]]:
    made: list[list[Item]] = []
    width = 0
    for item in items:
        lengths = [len(sequence) for sequence in sequences(item)]
        if made and (len(made[-1]) + 1) * len(lengths) * width <= max_tokens:
            made[-1].append(item)
        else:
            made.append([item])
            width = max(lengths)
    return made


def sequences_of(example: Example) -> tuple[TokenSequence, ...]:
    return example.sequences


def alone(sequence: TokenSequence) -> tuple[TokenSequence, ...]:
    """Returns the sequences of an item that is one itself."""
    return (sequence,)


def example_length(example: Example) -> int:
    """Counts the tokens of the example's longest sequence."""
    return max(map(len, example.sequences))


def _indivisible(examples: Sequence[Example]) -> list[list[Example]]:
    """Returns groups as wholes, all other examples one by one."""

    def unit(indexed: tuple[int, Example]) -> tuple[bool, int]:
        index, example = indexed
        is_grouped = isinstance(example, GroupedExample)
        return is_grouped, example.group if isinstance(example, GroupedExample) else index

    return [[example for _, example in rows] for _, rows in groupby(enumerate(examples), key=unit)]


def _filled(units: Sequence[list[Example]], batch_size: int) -> list[list[Example]]:
    """Makes batches of whole units with at most `batch_size` examples; a larger unit is alone."""
    batches: list[list[Example]] = []
    for unit in units:
        if batches and len(batches[-1]) + len(unit) <= batch_size:
            batches[-1].extend(unit)
        else:
            batches.append(list(unit))
    return batches


def _mismatched(
    batch: Sequence[Example], elsewhere: Sequence[Sequence[Example]]
) -> tuple[TokenSequence, ...]:
    """Pairs each prompt with the completion of the next example that is of another (KTO, section
    4).

    That is the next in the step, from the last on to the first; of a step with one prompt, in the
    steps after it. HALOs takes the next of the microbatch, which often is of the same prompt. A
    round of one prompt has no other: there it is the next example's.
    """
    here = [example.sequences[0] for example in batch]

    def following(place: int) -> Iterator[TokenSequence]:
        yield from here[place + 1 :]
        yield from here[:place]
        yield from (example.sequences[0] for step in elsewhere for example in step)

    def mismatch(place: int, own: TokenSequence) -> TokenSequence:
        others = (other for other in following(place) if other.prompt != own.prompt)
        other = next(others, None) or next(following(place), own)
        return TokenSequence(own.prompt, other.completion)

    return tuple(mismatch(place, own) for place, own in enumerate(here))

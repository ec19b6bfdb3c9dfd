"""Plans which completions are generated together: a pure function of the stage's whole input.

Logits change a little with a batch's size and padding, so a later attempt must repeat whole batches
and never sort what remains anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Names one completion to make: the k-th of the prompt at `prompt_index` of the round."""

    prompt_index: int
    k: int


@dataclass(frozen=True)
class Batch:
    """Holds rows generated together. `groups` are the prompts whose group is complete after it."""

    rows: tuple[Row, ...]
    groups: tuple[int, ...]


def plan_batches(
    prompt_lengths: Sequence[int], *, group_size: int, batch_size: int
) -> tuple[Batch, ...]:
    """Makes batches of at most `batch_size` rows, prompts of like length together, longest first.

    A batch has whole groups; a group larger than a batch has batches of its own.
    """
    order = sorted(range(len(prompt_lengths)), key=lambda index: -prompt_lengths[index])
    if group_size > batch_size:
        return tuple(
            batch for index in order for batch in _split_group(index, group_size, batch_size)
        )
    per_batch = batch_size // group_size
    return tuple(
        Batch(
            rows=tuple(Row(index, k) for index in members for k in range(group_size)),
            groups=tuple(members),
        )
        for members in (
            order[start : start + per_batch] for start in range(0, len(order), per_batch)
        )
    )


def _split_group(index: int, group_size: int, batch_size: int) -> list[Batch]:
    starts = range(0, group_size, batch_size)
    return [
        Batch(
            rows=tuple(Row(index, k) for k in range(start, min(start + batch_size, group_size))),
            groups=(index,) if start == starts[-1] else (),
        )
        for start in starts
    ]


def num_done_batches(batches: Sequence[Batch], num_groups_done: int) -> tuple[int, int]:
    """Returns (batches, groups) that need no repeat when the first `num_groups_done` groups are
    there.

    A batch counts only when all groups up to its last row are; a group's earlier batches count with
    its last one.
    """
    batches_done = groups_done = 0
    groups = 0
    for number, batch in enumerate(batches, start=1):
        groups += len(batch.groups)
        if groups > num_groups_done:
            break
        if batch.groups:
            batches_done, groups_done = number, groups
    return batches_done, groups_done

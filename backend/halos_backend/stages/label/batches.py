"""Owns which sequences share a forward: a pure function of all their lengths.

A reward depends on its batch's shape by about 1e-7 (PITFALLS), so a later attempt repeats the plan
and redoes whole batches.
"""

from __future__ import annotations

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[tuple[int, ...]]:
    """Positions in `lengths`, longest first, in batches of at most `batch_tokens` padded tokens.

    A sequence longer than that has a batch to itself. Longest first shows a lack of memory at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[tuple[int, ...]] = []
    batch: list[int] = []
    for index in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            batches.append(tuple(batch))
            batch = []
        batch.append(index)
    if batch:
        batches.append(tuple(batch))
    return batches

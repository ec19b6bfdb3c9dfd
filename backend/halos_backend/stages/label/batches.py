"""Owns which sequences share a forward: pure functions of all their lengths.

A reward depends on its batch's shape by about 1e-7 (PITFALLS), so a later attempt repeats the plan
and redoes whole batches.
"""

from __future__ import annotations

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[tuple[int, ...]]:
    """Positions in `lengths`, longest first, in batches of at most `batch_tokens` padded tokens.

    A sequence longer than that has a batch to itself. Longest first shows a lack of memory at once.
    """
    order = _longest_first(lengths)
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


def plan_waves(lengths: Sequence[int], batch_tokens: int, most: int) -> list[tuple[int, ...]]:
    """The same for an engine that pads nothing, and takes at most so many sequences at a time."""
    waves: list[tuple[int, ...]] = []
    wave: list[int] = []
    for index in _longest_first(lengths):
        num_tokens = sum(lengths[other] for other in wave) + lengths[index]
        if wave and (num_tokens > batch_tokens or len(wave) == most):
            waves.append(tuple(wave))
            wave = []
        wave.append(index)
    if wave:
        waves.append(tuple(wave))
    return waves


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))

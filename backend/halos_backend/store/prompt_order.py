"""Owns the order in which a run takes its prompts: a seeded permutation per epoch, and a cursor
into it.

The cursor counts prompts taken since the run began, so it survives a change of
`prompts_per_round`. A round never crosses the end of an epoch: no prompt is in a round twice.
"""

from __future__ import annotations

import hashlib
import math
import random


def derived_seed(*parts: int | str) -> int:
    """Derives a 63-bit seed from named parts, the same on every machine and Python version."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def round_size(
    *, cursor: int, wanted: int, num_prompts: int, num_epochs: int, budget: int | None
) -> int:
    """Returns how many prompts the next round takes: `wanted`, or what epoch, epochs and budget
    leave.
    """
    if num_prompts == 0:
        return 0
    total = num_prompts * num_epochs
    left = max(0, min(total, total if budget is None else budget) - cursor)
    left_in_epoch = num_prompts - cursor % num_prompts
    return min(wanted, left, left_in_epoch)


def rounds_to_come(
    *,
    cursor: int,
    rounds_done: int,
    num_rounds: int | None,
    prompts_per_round: int,
    num_prompts: int,
    num_epochs: int,
    budget: int | None,
) -> tuple[int, int]:
    """Counts the rounds after the `rounds_done` ones, and the prompts taken when they are done.

    The first of `num_rounds`, epochs and budget to be reached ends a run. The schedule of the
    learning rate spans these prompts.
    """
    total = num_prompts * num_epochs
    left = max(0, min(total, total if budget is None else budget) - cursor)
    if not left:
        return 0, cursor
    in_epoch = min(left, num_prompts - cursor % num_prompts)
    epochs, rest = divmod(left - in_epoch, num_prompts)
    sizes = ((in_epoch, 1), (num_prompts, epochs), (rest, 1))
    count = sum(times * math.ceil(size / prompts_per_round) for size, times in sizes)
    most = count if num_rounds is None else max(0, num_rounds - rounds_done)
    if count <= most:
        return count, cursor + left
    return most, _cursor_after(most, cursor, prompts_per_round, num_prompts)


def prompt_rows(*, seed: int, num_prompts: int, cursor: int, count: int) -> list[int]:
    """Returns row numbers (from 0) of `prompts.jsonl` that a round of `count` prompts at `cursor`
    takes.
    """
    epoch, offset = divmod(cursor, num_prompts)
    order = list(range(num_prompts))
    random.Random(derived_seed(seed, "prompt order", epoch)).shuffle(order)
    return order[offset : offset + count]


def _cursor_after(num_rounds: int, cursor: int, wanted: int, num_prompts: int) -> int:
    """Returns the cursor after rounds of `wanted` prompts, each cut off at the end of its epoch."""
    left_in_epoch = num_prompts - cursor % num_prompts
    rounds_in_epoch = math.ceil(left_in_epoch / wanted)
    if num_rounds < rounds_in_epoch:
        return cursor + num_rounds * wanted
    epochs, rounds = divmod(num_rounds - rounds_in_epoch, math.ceil(num_prompts / wanted))
    return cursor + left_in_epoch + epochs * num_prompts + rounds * wanted

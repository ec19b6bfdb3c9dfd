"""The order in which a run takes its prompts: a seeded permutation per epoch, and a cursor into it.

The cursor counts prompts taken since the run began, so it survives a change of
`prompts_per_round`. A round never crosses the end of an epoch: no prompt is in a round twice.
"""

from __future__ import annotations

import hashlib
import random


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from named parts, the same on every machine and Python version."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def round_size(
    *, cursor: int, wanted: int, num_prompts: int, num_epochs: int, budget: int | None
) -> int:
    """How many prompts the next round takes: `wanted`, or what epoch, epochs and budget leave."""
    if num_prompts == 0:
        return 0
    total = num_prompts * num_epochs
    left = max(0, min(total, total if budget is None else budget) - cursor)
    left_in_epoch = num_prompts - cursor % num_prompts
    return min(wanted, left, left_in_epoch)


def prompt_rows(*, seed: int, num_prompts: int, cursor: int, count: int) -> list[int]:
    """Row numbers (from 0) of `prompts.jsonl` that a round of `count` prompts at `cursor` takes."""
    epoch, offset = divmod(cursor, num_prompts)
    order = list(range(num_prompts))
    random.Random(derived_seed(seed, "prompt order", epoch)).shuffle(order)
    return order[offset : offset + count]

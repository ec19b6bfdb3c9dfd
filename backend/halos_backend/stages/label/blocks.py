"""Which groups are scored together: blocks of the round's order, so that a block can be scored, and
its rewards are the same, while others are still sampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from halos_backend.config.schema import FunctionJudge, RunSettings
from halos_backend.records import Group

BLOCK_COMPLETIONS = 256
"""Of each process. Fewer fill no GPU's batches; more make scoring wait for sampling."""


def groups_per_block(settings: RunSettings, num_processes: int) -> int:
    """A function judges one completion at a time, and need not wait for others."""
    if isinstance(settings.label.judge, FunctionJudge):
        return 1
    completions = BLOCK_COMPLETIONS * num_processes
    return max(1, completions // settings.sample.group_size)


def blocks_of(groups: Iterable[Group], size: int) -> Iterator[list[Group]]:
    """Consecutive groups, each block as soon as its last group is there."""
    remaining = iter(groups)
    while block := list(islice(remaining, size)):
        yield block

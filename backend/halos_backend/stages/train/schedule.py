"""The learning rate's factor as a pure function of how far the run or the round is."""

from __future__ import annotations

import math
from typing import Literal, assert_never

Schedule = Literal["constant", "linear", "cosine"]


def schedule_factor(*, schedule: Schedule, progress: float, warmup_frac: float) -> float:
    """What the peak learning rate is multiplied by at `progress` (0..1) of the schedule's scope.

    It rises linearly over the first `warmup_frac`, then stays, or falls to 0 as a line or a half
    cosine.
    """
    if progress < warmup_frac:
        return progress / warmup_frac
    decayed = min(1.0, (progress - warmup_frac) / (1 - warmup_frac))
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - decayed
        case "cosine":
            return (1 + math.cos(math.pi * decayed)) / 2
        case _:
            assert_never(schedule)


def step_progress(
    *, step: int, num_steps: int, scope: Literal["run", "round"], start: float, end: float
) -> float:
    """Progress at the middle of step `step` (from 1) of a round that covers `start`..`end`.

    At the middle, because at a step's beginning or end one step of a run would have a factor of 0
    and be wasted: the first of the warm-up, or the last of the decay.
    """
    in_round = (step - 0.5) / num_steps
    return start + (end - start) * in_round if scope == "run" else in_round

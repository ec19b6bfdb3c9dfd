"""Owns what completions are worth that were cut off, or nearly: `label.cut_off` and
`label.overlong_tokens`. It is pure.

`stages.train.examples` decides by `train.mask_cut_off` whether training takes a loss of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from halos_backend.config.schema import LabelSettings
from halos_backend.records import Completion, Group


def with_penalties(
    groups: Sequence[Group], settings: LabelSettings, *, max_new_tokens: int
) -> list[Group]:
    """Returns scored groups in which each completion says what training will see less of its
    reward; they have at most `max_new_tokens`.
    """

    def penalized(each: Completion) -> Completion:
        parts = [overlong_penalty(len(each.token_ids), settings, max_new_tokens=max_new_tokens)]
        if settings.cut_off == "penalty" and is_cut_off(each):
            parts.append(settings.cut_off_penalty)
        penalty = math.fsum(parts)
        return replace(each, penalty=penalty) if penalty and each.reward is not None else each

    return _changed(groups, penalized)


def overlong_penalty(length: int, settings: LabelSettings, *, max_new_tokens: int) -> float:
    """Returns DAPO's soft overlong punishment (Yu et al. 2025, arXiv 2503.14476, eq. 13), times
    label.overlong_penalty and as a number that is subtracted.
    """
    last = settings.overlong_tokens
    if last is None:
        return 0.0
    too_many = length - (max_new_tokens - last)
    return settings.overlong_penalty * min(max(too_many / last, 0.0), 1.0)


def as_training_sees(groups: Sequence[Group], settings: LabelSettings) -> list[Group]:
    """Returns groups of `with_penalties` with the rewards that feedback is made of."""

    def seen(each: Completion) -> Completion | None:
        if settings.cut_off == "drop" and is_cut_off(each):
            return None
        return replace(each, reward=training_reward(each), penalty=None)

    return _changed(groups, seen)


def training_reward(completion: Completion) -> float | None:
    """Returns the judge's reward less the penalty; None where there is no reward."""
    if completion.reward is None or completion.penalty is None:
        return completion.reward
    return completion.reward - completion.penalty


def is_cut_off(completion: Completion) -> bool:
    return completion.finish_reason == "length"


class CutOff(NamedTuple):
    """Counts completions that were cut off, and what became of them, and `num_overlong` that lose
    some reward by their length; where there are penalties, it has the mean reward that training
    sees.
    """

    num: int
    num_dropped: int | None = None
    num_penalized: int | None = None
    num_overlong: int | None = None
    reward_mean: float | None = None


def count_cut_off(
    groups: Sequence[Group], settings: LabelSettings, *, max_new_tokens: int
) -> CutOff:
    """Counts over groups of `with_penalties`."""
    completions = [completion for group in groups for completion in group.completions]
    num = sum(map(is_cut_off, completions))
    found = CutOff(num, num_dropped=num if settings.cut_off == "drop" else None)
    penalized = [each for each in completions if each.penalty is not None]
    if settings.cut_off == "penalty":
        found = found._replace(num_penalized=sum(map(is_cut_off, penalized)))
    if settings.overlong_tokens is not None:
        least = max_new_tokens - settings.overlong_tokens
        num_overlong = sum(len(each.token_ids) > least for each in penalized)
        found = found._replace(num_overlong=num_overlong)
    if found.num_penalized is None and found.num_overlong is None:
        return found
    seen = [reward for each in completions if (reward := training_reward(each)) is not None]
    return found._replace(reward_mean=statistics.fmean(seen) if seen else None)


def _changed(
    groups: Sequence[Group], change: Callable[[Completion], Completion | None]
) -> list[Group]:
    """Applies `change`, which says what becomes of each completion; None leaves it out."""

    def kept(group: Group) -> Iterator[Completion]:
        changed = map(change, group.completions)
        return (completion for completion in changed if completion is not None)

    return [replace(group, completions=tuple(kept(group))) for group in groups]

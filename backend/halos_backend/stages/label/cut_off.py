"""Owns what completions are worth that were cut off: `label.cut_off`. It is pure.

`stages.train.examples` decides by `train.mask_cut_off` whether training takes a loss of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from halos_backend.config.schema import LabelSettings
from halos_backend.records import Completion, Group


def with_penalties(groups: Sequence[Group], settings: LabelSettings) -> list[Group]:
    """Returns scored groups in which each completion says what training will see less of its
    reward.
    """
    if settings.cut_off != "penalty":
        return list(groups)
    penalty = settings.cut_off_penalty
    return _changed(
        groups,
        lambda each: (
            replace(each, penalty=penalty) if is_cut_off(each) and each.reward is not None else each
        ),
    )


def as_training_sees(groups: Sequence[Group], settings: LabelSettings) -> list[Group]:
    """Returns groups of `with_penalties` with the rewards that feedback is made of."""
    if settings.cut_off == "drop":
        return _changed(groups, lambda each: None if is_cut_off(each) else each)
    return _changed(groups, lambda each: replace(each, reward=training_reward(each), penalty=None))


def training_reward(completion: Completion) -> float | None:
    """Returns the judge's reward less the penalty; None where there is no reward."""
    if completion.reward is None or completion.penalty is None:
        return completion.reward
    return completion.reward - completion.penalty


def is_cut_off(completion: Completion) -> bool:
    return completion.finish_reason == "length"


class CutOff(NamedTuple):
    """Counts completions that were cut off, and what became of them; where there are penalties, it
    has the mean reward that training sees.
    """

    num: int
    num_dropped: int | None = None
    num_penalized: int | None = None
    reward_mean: float | None = None


def count_cut_off(groups: Sequence[Group], settings: LabelSettings) -> CutOff:
    completions = [completion for group in groups for completion in group.completions]
    num = sum(map(is_cut_off, completions))
    match settings.cut_off:
        case "score":
            return CutOff(num)
        case "drop":
            return CutOff(num, num_dropped=num)
        case "penalty":
            seen = [reward for each in completions if (reward := training_reward(each)) is not None]
            return CutOff(
                num,
                num_penalized=sum(each.penalty is not None for each in completions),
                reward_mean=statistics.fmean(seen) if seen else None,
            )
        case _:
            assert_never(settings.cut_off)


def _changed(
    groups: Sequence[Group], change: Callable[[Completion], Completion | None]
) -> list[Group]:
    """Applies `change`, which says what becomes of each completion; None leaves it out."""

    def kept(group: Group) -> Iterator[Completion]:
        changed = map(change, group.completions)
        return (completion for completion in changed if completion is not None)

    return [replace(group, completions=tuple(kept(group))) for group in groups]

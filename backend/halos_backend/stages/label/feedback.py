"""Owns what training sees of the rewards: pairs, desirable or not, or whole groups. Pure, seeded.

What carries no information is dropped and counted, in the feedback's own unit: pairs, completions
(binary), groups (scalar). Completions without a reward take no part; the judge counted them.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import assert_never

import msgspec

from halos_backend.config.schema import (
    BinaryFeedback,
    FeedbackSettings,
    PairwiseFeedback,
    ScalarFeedback,
)
from halos_backend.records import Completion, Feedback, Group, PreferencePair, UnpairedFeedback
from halos_backend.store.prompt_order import derived_seed


@dataclass(frozen=True)
class MadeFeedback:
    """Rows of `feedback.jsonl` in prompt order, and what was left out."""

    rows: tuple[Feedback, ...]
    num_dropped: int
    margin_mean: float | None = None
    num_desirable: int | None = None


@dataclass(frozen=True)
class Scored:
    """A completion that has a reward."""

    completion: Completion
    reward: float


Pair = tuple[Scored, Scored]
"""(chosen, rejected)"""


def make_feedback(
    groups: Sequence[Group], settings: FeedbackSettings, *, seed: int
) -> MadeFeedback:
    """Feedback of scored groups; only `random` pairing draws from `seed`."""
    match settings:
        case PairwiseFeedback():
            return _pairwise(groups, settings, seed)
        case BinaryFeedback():
            return _binary(groups, settings)
        case ScalarFeedback():
            return _scalar(groups)
        case _:
            assert_never(settings)


def scored_completions(group: Group) -> list[Scored]:
    return [
        Scored(completion, completion.reward)
        for completion in group.completions
        if completion.reward is not None
    ]


def _pairwise(groups: Sequence[Group], settings: PairwiseFeedback, seed: int) -> MadeFeedback:
    """Pairs that fail the threshold are dropped; a prompt without two rewards counts as one."""
    rows: list[Feedback] = []
    margins: list[float] = []
    num_dropped = 0
    for group in groups:
        pairs, dropped = _pairs_of(group, settings, seed)
        rows.extend(_preference(group, chosen, rejected) for chosen, rejected in pairs)
        margins.extend(_margin(pair) for pair in pairs)
        num_dropped += dropped
    margin_mean = statistics.fmean(margins) if margins else None
    return MadeFeedback(tuple(rows), num_dropped, margin_mean=margin_mean)


def _pairs_of(group: Group, settings: PairwiseFeedback, seed: int) -> tuple[list[Pair], int]:
    """The group's pairs, and how many were dropped."""
    scored = scored_completions(group)
    if len(scored) < 2:
        return [], 1
    match settings.pairing:
        case "max":
            candidates = [_best_and_worst(scored)]
        case "min":
            closest = _closest(scored, settings.threshold)
            return ([closest], 0) if closest else ([], 1)
        case "random":
            candidates = _random_pairs(scored, derived_seed(seed, group.prompt_id))
        case _:
            assert_never(settings.pairing)
    kept = [pair for pair in candidates if _margin(pair) > settings.threshold]
    return kept, len(candidates) - len(kept)


def _margin(pair: Pair) -> float:
    chosen, rejected = pair
    return chosen.reward - rejected.reward


def _ordered(one: Scored, other: Scored) -> Pair:
    return (one, other) if one.reward >= other.reward else (other, one)


def _best_and_worst(scored: Sequence[Scored]) -> Pair:
    """Among equals the one that was sampled first."""
    best = max(scored, key=lambda entry: entry.reward)
    worst = min(scored, key=lambda entry: entry.reward)
    return best, worst


def _closest(scored: Sequence[Scored], threshold: float) -> Pair | None:
    """The pair of least margin that is over 0 and at least `threshold`.

    Among equal margins the pair whose earlier completion was sampled first, then its later one.
    """
    pairs = [_ordered(one, other) for one, other in combinations(scored, 2)]
    eligible = [pair for pair in pairs if _margin(pair) > 0 and _margin(pair) >= threshold]
    return min(eligible, key=_margin, default=None)


def _random_pairs(scored: Sequence[Scored], seed: int) -> list[Pair]:
    """Disjoint pairs of a shuffled group; of an odd number one is left over.

    Seeded per prompt, so that a group's pairs do not depend on the groups before it.
    """
    shuffled = list(scored)
    random.Random(seed).shuffle(shuffled)
    return [_ordered(one, other) for one, other in zip(shuffled[::2], shuffled[1::2], strict=False)]


def _preference(group: Group, chosen: Scored, rejected: Scored) -> PreferencePair:
    return PreferencePair(
        prompt_id=group.prompt_id,
        prompt=group.prompt,
        prompt_token_ids=group.prompt_token_ids,
        chosen=chosen.completion,
        rejected=rejected.completion,
        reward_chosen=chosen.reward,
        reward_rejected=rejected.reward,
    )


def _binary(groups: Sequence[Group], settings: BinaryFeedback) -> MadeFeedback:
    """Desirable is a reward of at least the threshold.

    When all rewards of the round are equal, their mean and median would call every completion
    desirable, which says nothing: no rows then, all of them dropped. A number is the person's own
    standard and holds whatever the rewards are.
    """
    entries = [(group, scored) for group in groups for scored in scored_completions(group)]
    rewards = [scored.reward for _, scored in entries]
    is_relative = isinstance(settings.threshold, str)
    if not rewards or (is_relative and min(rewards) == max(rewards)):
        return MadeFeedback((), len(entries), num_desirable=0)
    threshold = desirable_threshold(rewards, settings)
    rows = tuple(_unpaired(group, scored, threshold) for group, scored in entries)
    return MadeFeedback(rows, 0, num_desirable=sum(row.is_desirable for row in rows))


def desirable_threshold(rewards: Sequence[float], settings: BinaryFeedback) -> float:
    """The reward from which on a completion is desirable."""
    match settings.threshold:
        case "mean":
            return statistics.fmean(rewards)
        case "median":
            return statistics.median(rewards)
        case number:
            return number


def _unpaired(group: Group, scored: Scored, threshold: float) -> UnpairedFeedback:
    return UnpairedFeedback(
        prompt_id=group.prompt_id,
        prompt=group.prompt,
        prompt_token_ids=group.prompt_token_ids,
        completion=scored.completion,
        is_desirable=scored.reward >= threshold,
        reward=scored.reward,
    )


def _scalar(groups: Sequence[Group]) -> MadeFeedback:
    """Groups with their scored completions; one without two different rewards has no advantage."""
    rows = []
    for group in groups:
        completions = tuple(scored.completion for scored in scored_completions(group))
        if len({completion.reward for completion in completions}) > 1:
            rows.append(msgspec.structs.replace(group, completions=completions))
    return MadeFeedback(tuple(rows), len(groups) - len(rows))

"""Owns what training sees of the rewards: pairs, desirable or not, or whole groups. Pure, seeded.

What carries no information is dropped and counted, in the feedback's own unit: pairs, completions
(binary), groups (scalar). Rewards that differ by no more than the judge's rounding are equal.
Completions without a reward take no part; the judge counted them.
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
    """Holds rows of `feedback.jsonl` in prompt order, and what was left out."""

    rows: tuple[Feedback, ...]
    num_dropped: int
    margin_mean: float | None = None
    num_desirable: int | None = None


@dataclass(frozen=True)
class Rounding:
    """Says how far rewards may differ that are equal: a share of them, by the judge's arithmetic.

    A reward near 0 is a difference of larger numbers, so it is a share of the round's median
    `magnitude` at least.
    """

    share: float
    magnitude: float

    @classmethod
    def of(cls, groups: Sequence[Group], share: float) -> Rounding:
        rewards = [abs(s.reward) for group in groups for s in scored_completions(group)]
        return cls(share, statistics.median(rewards) if rewards else 0.0)

    def between(self, *rewards: float) -> float:
        """Returns the largest difference that says nothing."""
        return self.share * max(self.magnitude, *map(abs, rewards))

    def are_equal(self, rewards: Sequence[float]) -> bool:
        """Says whether all of them, at least one, are equal."""
        low, high = min(rewards), max(rewards)
        return high - low <= self.between(low, high)


@dataclass(frozen=True)
class Scored:
    """Is a completion that has a reward."""

    completion: Completion
    reward: float


Pair = tuple[Scored, Scored]
"""Is (chosen, rejected)."""


def make_feedback(
    groups: Sequence[Group], settings: FeedbackSettings, *, seed: int, rounding: float = 0.0
) -> MadeFeedback:
    """Makes feedback of scored groups; only `random` pairing draws from `seed`.

    `rounding` is the judge's, see Judge.
    """
    limit = Rounding.of(groups, rounding)
    match settings:
        case PairwiseFeedback():
            return _pairwise(groups, settings, seed, limit)
        case BinaryFeedback():
            return _binary(groups, settings, limit)
        case ScalarFeedback():
            return _scalar(groups, limit)
        case _:
            assert_never(settings)


def num_equal_groups(groups: Sequence[Group], rounding: float) -> int:
    """Counts groups of several rewards that are all equal, which say nothing of what is better."""
    limit = Rounding.of(groups, rounding)
    rewards = [[scored.reward for scored in scored_completions(group)] for group in groups]
    return sum(len(of_group) > 1 and limit.are_equal(of_group) for of_group in rewards)


def scored_completions(group: Group) -> list[Scored]:
    return [
        Scored(completion, completion.reward)
        for completion in group.completions
        if completion.reward is not None
    ]


def _pairwise(
    groups: Sequence[Group], settings: PairwiseFeedback, seed: int, rounding: Rounding
) -> MadeFeedback:
    """Makes pairs; those that are not kept are dropped; a prompt without two rewards
    counts as one.
    """
    rows: list[Feedback] = []
    margins: list[float] = []
    num_dropped = 0
    for group in groups:
        pairs, dropped = _pairs_of(group, settings, seed, rounding)
        rows.extend(_preference(group, chosen, rejected) for chosen, rejected in pairs)
        margins.extend(_margin(pair) for pair in pairs)
        num_dropped += dropped
    margin_mean = statistics.fmean(margins) if margins else None
    return MadeFeedback(tuple(rows), num_dropped, margin_mean=margin_mean)


def _pairs_of(
    group: Group, settings: PairwiseFeedback, seed: int, rounding: Rounding
) -> tuple[list[Pair], int]:
    """Returns the group's pairs, and how many were dropped."""
    scored = scored_completions(group)
    if len(scored) < 2:
        return [], 1
    if settings.pairing == "judged":
        pairs = _judged_pairs(scored)
        return (pairs, 0) if pairs else ([], 1)
    candidates = _candidates(scored, settings, derived_seed(seed, group.prompt_id))
    kept = [pair for pair in candidates if _is_kept(pair, settings.threshold, rounding)]
    if settings.pairing == "min":
        return ([min(kept, key=_margin)], 0) if kept else ([], 1)
    return kept, len(candidates) - len(kept)


def _judged_pairs(scored: Sequence[Scored]) -> list[Pair]:
    """Returns the pairs of which the judge found one better, whatever the win rates: a judge that
    compares may go in circles. Rewards are the verdict's.
    """
    by_id = {entry.completion.completion_id: entry.completion for entry in scored}
    return [
        (Scored(entry.completion, 1.0), Scored(by_id[beaten], 0.0))
        for entry in scored
        for beaten in entry.completion.beats
        if beaten in by_id and by_id[beaten].token_ids != entry.completion.token_ids
    ]


def _candidates(scored: Sequence[Scored], settings: PairwiseFeedback, seed: int) -> list[Pair]:
    """Returns the candidates; of `min` all pairs: among equal margins the first is taken, whose
    completions came first.
    """
    match settings.pairing:
        case "max":
            return [_best_and_worst(scored)]
        case "min":
            return [_ordered(one, other) for one, other in combinations(scored, 2)]
        case "random":
            return _random_pairs(scored, seed)
        case "judged":
            return _judged_pairs(scored)
        case _:
            assert_never(settings.pairing)


def _is_kept(pair: Pair, threshold: float, rounding: Rounding) -> bool:
    """Says whether the margin is at least the threshold, and over 0; and whether there are two
    things to tell apart.

    Deviates from HALOs (train/label.py), which wants a margin over the threshold for `max` and
    `random` and of at least the threshold for `min`.
    """
    chosen, rejected = pair
    limit = rounding.between(chosen.reward, rejected.reward)
    is_better = _margin(pair) > limit and _margin(pair) >= threshold - limit
    return is_better and chosen.completion.token_ids != rejected.completion.token_ids


def _margin(pair: Pair) -> float:
    chosen, rejected = pair
    return chosen.reward - rejected.reward


def _ordered(one: Scored, other: Scored) -> Pair:
    return (one, other) if one.reward >= other.reward else (other, one)


def _best_and_worst(scored: Sequence[Scored]) -> Pair:
    """Returns the best and the worst; among equals the one that was sampled first."""
    best = max(scored, key=lambda entry: entry.reward)
    worst = min(scored, key=lambda entry: entry.reward)
    return best, worst


def _random_pairs(scored: Sequence[Scored], seed: int) -> list[Pair]:
    """Returns disjoint pairs of a shuffled group; of an odd number one is left over.

    They are seeded per prompt, so that a group's pairs do not depend on the groups before it.
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
        tools=group.tools,
    )


def _binary(groups: Sequence[Group], settings: BinaryFeedback, rounding: Rounding) -> MadeFeedback:
    """Calls a completion desirable whose reward is at least the threshold.

    When all rewards of the round are equal, their mean and median would call every completion
    desirable, which says nothing: no rows then, all of them dropped. A number is the person's own
    standard and holds whatever the rewards are.
    """
    entries = [(group, scored) for group in groups for scored in scored_completions(group)]
    rewards = [scored.reward for _, scored in entries]
    is_relative = isinstance(settings.threshold, str)
    if not rewards or (is_relative and rounding.are_equal(rewards)):
        return MadeFeedback((), len(entries), num_desirable=0)
    threshold = desirable_threshold(rewards, settings)
    least = threshold - rounding.between(threshold)
    rows = tuple(_unpaired(group, scored, least) for group, scored in entries)
    return MadeFeedback(rows, 0, num_desirable=sum(row.is_desirable for row in rows))


def desirable_threshold(rewards: Sequence[float], settings: BinaryFeedback) -> float:
    """Returns the reward from which on a completion is desirable."""
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
        tools=group.tools,
    )


def _scalar(groups: Sequence[Group], rounding: Rounding) -> MadeFeedback:
    """Makes groups with their scored completions; one without two different rewards has no
    advantage.
    """
    rows = []
    for group in groups:
        scored = scored_completions(group)
        if scored and not rounding.are_equal([entry.reward for entry in scored]):
            completions = tuple(entry.completion for entry in scored)
            rows.append(msgspec.structs.replace(group, completions=completions))
    return MadeFeedback(tuple(rows), len(groups) - len(rows))

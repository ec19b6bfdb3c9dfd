"""Owns the standard error of a round's mean reward, and when a change of it is more than noise.

Completions of one prompt are alike, so that prompts are counted, not completions: the error is that
of a mean over clusters (the sandwich estimator with G / (G - 1) for G prompts; for groups of one
size the spread of the groups' means over sqrt(G)). Two rounds that have prompts in common are
compared prompt by prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal, Protocol

import msgspec

from halos_backend.records import read_rows
from halos_backend.store.round_state import RoundState

NUM_STDERRS = 2.0
"""Is the limit of noise: a change of more standard errors than this is none."""

Significance = Literal["more than noise", "within noise"]
Pulls = Mapping[str, float]
"""Says how far each prompt pulls a mean reward; the squares add up to its variance."""


class Reward(msgspec.Struct, frozen=True):
    """Is the mean reward of a round. `stderr` is None where nobody knows it.

    `change_stderrs` are the standard errors of its change from earlier rounds that it shares
    prompts with. It `is_share` where all rewards are 0 or 1.
    """

    round: int
    mean: float
    stderr: float | None = None
    change_stderrs: dict[int, float | None] = {}
    is_share: bool = False


class RewardChange(msgspec.Struct, frozen=True):
    """Is the change from one round to a later one, with its standard error, where that is known."""

    value: float
    stderr: float | None = None
    is_share: bool = False

    @property
    def significance(self) -> Significance | None:
        """Says whether the change is noise; None where nobody knows how large the noise is."""
        return significance_of(self.value, self.stderr)

    @property
    def direction(self) -> Literal[-1, 0, 1]:
        """Says whether it got better or worse; 0 for what may be noise."""
        if self.significance != "more than noise":
            return 0
        return 1 if self.value > 0 else -1


def significance_of(change: float, stderr: float | None) -> Significance | None:
    """Decides by the one rule for whatever has a standard error."""
    if stderr is None:
        return None
    return "within noise" if abs(change) <= NUM_STDERRS * stderr else "more than noise"


def reward_of(round: RoundState) -> Reward | None:
    """Returns a round's reward; None until the round is labelled, or where nothing could
    be scored.
    """
    label = round.stages.get("label")
    if label is None or label.status != "finished":
        return None
    return reward_in(round.label_summary, round.round, round.num_prompts)


class RewardFigures(Protocol):
    """Is the part of a label stage's summary that a mean reward is read from."""

    @property
    def reward_mean(self) -> float | None: ...
    @property
    def reward_std(self) -> float | None: ...
    @property
    def reward_stderr(self) -> float | None: ...
    @property
    def reward_change_stderrs(self) -> list[tuple[int, float | None]] | None: ...
    @property
    def reward_min(self) -> float | None: ...
    @property
    def reward_max(self) -> float | None: ...
    @property
    def num_completions(self) -> int | None: ...
    @property
    def num_unscored(self) -> int | None: ...


def reward_in(label: RewardFigures, round: int, num_prompts: int) -> Reward | None:
    """Reads the same from the label stage's summary.

    Where that has no `reward_stderr`, as in older versions, it is the greatest that it can be: as
    if all completions of a prompt had the same reward.
    """
    if label.reward_mean is None:
        return None
    stderr, std = label.reward_stderr, label.reward_std
    is_older = stderr is None and label.reward_change_stderrs is None
    if is_older and std is not None and num_prompts > 1:
        stderr = std / math.sqrt(num_prompts - 1)
    changes = dict(label.reward_change_stderrs or ())
    return Reward(round, label.reward_mean, stderr, changes, is_share(label))


def is_share(label: RewardFigures) -> bool:
    """Says whether all rewards are 0 or 1: only then their variance is mean x (1 - mean)."""
    mean, std = label.reward_mean, label.reward_std
    if mean is None or std is None or {label.reward_min, label.reward_max} - {0.0, 1.0}:
        return False
    count = (label.num_completions or 0) - (label.num_unscored or 0)
    variance = mean * (1 - mean)
    of_a_sample = variance * count / (count - 1) if count > 1 else variance
    return any(
        math.isclose(std**2, one, rel_tol=1e-4, abs_tol=1e-9) for one in (variance, of_a_sample)
    )


def change_between(older: Reward, newer: Reward) -> RewardChange:
    """Compares two rounds; rounds that share no prompt are independent of each other."""
    stderr = newer.change_stderrs.get(older.round)
    if stderr is None and older.stderr is not None and newer.stderr is not None:
        stderr = math.hypot(older.stderr, newer.stderr)
    is_share = older.is_share and newer.is_share
    return RewardChange(newer.mean - older.mean, stderr, is_share)


def compared_rounds(earlier: Sequence[RoundState]) -> tuple[RoundState, ...]:
    """Returns the rounds that a round's reward is compared with: the first that has one, and the
    last.
    """
    first = next((round for round in earlier if reward_of(round) is not None), None)
    last = next((round for round in reversed(earlier) if reward_of(round) is not None), None)
    if first is None or last is None:
        return ()
    return (first,) if first is last else (first, last)


def may_share_prompts(one: RoundState, other: RoundState, *, num_prompts: int) -> bool:
    """Says whether two rounds can share prompts: rounds of one epoch never do."""
    return num_prompts > 0 and one.cursor // num_prompts != other.cursor // num_prompts


def pulls_of(rewards: Iterable[tuple[str, Sequence[float]]]) -> dict[str, float]:
    """Computes the pulls of prompts from the rewards of their completions; empty for fewer than two
    prompts.
    """
    by_prompt: dict[str, list[float]] = {}
    for prompt_id, scored in rewards:
        if scored:
            by_prompt.setdefault(prompt_id, []).extend(scored)
    if len(by_prompt) < 2:
        return {}
    everything = [reward for scored in by_prompt.values() for reward in scored]
    is_constant = min(everything) == max(everything)
    mean = everything[0] if is_constant else fmean(everything)
    scale = math.sqrt(len(by_prompt) / (len(by_prompt) - 1)) / len(everything)
    return {
        prompt_id: scale * math.fsum(reward - mean for reward in scored)
        for prompt_id, scored in by_prompt.items()
    }


def stderr_of(pulls: Pulls) -> float | None:
    """Returns the standard error of a mean reward."""
    return math.hypot(*pulls.values()) if pulls else None


def change_stderr(older: Pulls, newer: Pulls) -> float | None:
    """Returns the standard error of a difference of mean rewards: paired where both have a prompt,
    else independent.
    """
    if not older or not newer:
        return None
    prompts = older.keys() | newer.keys()
    return math.hypot(*(newer.get(prompt, 0.0) - older.get(prompt, 0.0) for prompt in prompts))


class _Completion(msgspec.Struct):
    reward: float | None = None


class _Group(msgspec.Struct):
    prompt_id: str
    completions: tuple[_Completion, ...]


def rewards_in(scores: Path) -> Iterator[tuple[str, list[float]]]:
    """Yields each prompt of a `scores.jsonl` with its rewards. Raises CorruptFileError, OSError."""
    for group in read_rows(scores, _Group):
        rewards = [row.reward for row in group.completions if row.reward is not None]
        yield group.prompt_id, rewards

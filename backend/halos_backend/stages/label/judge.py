"""Owns what a judge is: rows in, a reward or a reason for each out, in any order.

`reward_model` and `function` make rewards; `feedback` decides what they become.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from halos_backend.records import Group, Message, Tools

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
"""Is the largest reward: training reads rewards as float32, in which a larger one is infinite."""
FLOAT64_ROUNDING = 2.0**-46
"""Is the rounding of some sixty-four additions of Python floats, as a share of the result."""
MAX_REASON = 200
"""Is how many characters a reason has at most; a judge's own messages may be pages."""


@dataclass(frozen=True)
class Unscored:
    """Says why a completion has no reward. `is_error`: the judge failed, rather than declined."""

    reason: str
    is_error: bool = False


@dataclass(frozen=True)
class Weighed:
    """Is a reward made of several scores, each under its name; or of comparisons with others of the
    group, of which the completion `beats` some.
    """

    reward: float
    components: dict[str, float]
    beats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bill:
    """Says what a judge behind an API took, under the names of the summary."""

    num_judge_answers: int
    num_judge_reused: int
    num_judge_failed: int
    num_judge_prompt_tokens: int
    num_judge_answer_tokens: int
    judge_cost: float | None
    judge_cost_so_far: float | None
    num_judge_matches: int | None = None
    tie_frac: float | None = None
    flip_frac: float | None = None


RewardOrReason = float | Unscored
Outcome = RewardOrReason | Weighed


@dataclass(frozen=True)
class LabelRow:
    """Is one completion as a judge sees it."""

    prompt_id: str
    completion_id: str
    prompt: tuple[Message, ...]
    text: str
    columns: dict[str, Any] = field(default_factory=dict)
    tools: Tools = ()


class Judge(Protocol):
    """Gives rewards."""

    @property
    def identity(self) -> str:
        """Returns a digest of all that rewards depend on besides the rows: only equal ones may be
        mixed.
        """

    @property
    def engine(self) -> str:
        """Names what computes rewards, and its version; empty where that is a person's own
        function.
        """

    @property
    def rounding(self) -> float:
        """Returns the share of a reward by which equal ones may differ."""

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yields (position in `rows`, reward or reason) once per row, as they are computed.

        `known` are rewards of an earlier attempt by position, which the judge may yield as they are
        where its own computation would give the same.
        """


def label_rows(groups: Sequence[Group]) -> list[LabelRow]:
    """Returns every completion of every group, in order."""
    return [
        LabelRow(
            prompt_id=group.prompt_id,
            completion_id=completion.completion_id,
            prompt=group.prompt,
            text=completion.text,
            columns=group.columns,
            tools=group.tools,
        )
        for group in groups
        for completion in group.completions
    ]


def checked(reward: float) -> RewardOrReason:
    """Returns the reward, or why it is none."""
    if math.isnan(reward):
        return Unscored("reward is nan", is_error=True)
    if abs(reward) > FLOAT32_MAX:
        return Unscored("reward is inf", is_error=True)
    return reward


def short_reason(text: str) -> str:
    """Returns a reason on one line, cut to `MAX_REASON` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_REASON else f"{line[: MAX_REASON - 1]}…"

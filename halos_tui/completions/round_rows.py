"""Reads the rows of a round: its groups of completions with their rewards, and its feedback.

Of the feedback it reads the pairs, and what it made of each completion: a mark, without decoding
the texts. Where the feedback has no pairs, the best of each group is set against its worst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from threading import Event
from typing import Literal

import msgspec
from halos_backend.errors import CorruptFileError, UsageError
from halos_backend.events import Stage
from halos_backend.records import (
    BAD_JSON,
    Completion,
    Feedback,
    Group,
    Message,
    PreferencePair,
    read_rows,
    text_of,
)
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState

from halos_tui.completions.round_index import Names, RoundIndex, first_alike
from halos_tui.formatting import number

Mark = Literal["chosen", "rejected", "desirable", "undesirable"]
MARKS: tuple[Mark, ...] = ("chosen", "rejected", "desirable", "undesirable")
Marks = dict[tuple[str, str], Mark]
"""It holds the marks by (prompt_id, completion_id)."""


@dataclass(frozen=True)
class RoundRows:
    """Knows where the rows of one round are. Files are streamed; a torn last line is held back."""

    run_dir: RunDir
    round: RoundState

    @property
    def is_scored(self) -> bool:
        label = self.round.stages.get("label")
        return label is not None and label.status == "finished"

    @property
    def groups_path(self) -> Path:
        """Returns the file of the scores, or of the completions; the attempt is the one that
        counts.
        """
        return (
            self._attempt("label").scores if self.is_scored else self._attempt("sample").completions
        )

    @property
    def feedback_path(self) -> Path:
        """Returns the feedback file of a labelled round."""
        return self._attempt("label").feedback

    def groups(self) -> Iterator[Group]:
        """Yields the scored groups once the round is labelled, before that the groups as
        sampled.
        """
        if not self.is_scored and not self.groups_path.is_file():
            return iter(())
        return read_rows(self.groups_path, Group, torn_tail=True)

    def feedback(self) -> Iterator[Feedback]:
        """Yields what training saw; nothing before the round is labelled."""
        if not self.is_scored:
            return iter(())
        return read_rows(self.feedback_path, Feedback)

    def marks(self, stop: Event | None = None) -> Marks:
        """Says what the feedback made of each completion; nothing before the round is labelled.

        Returns those read so far once `stop` is set. Raises CorruptFileError naming file and line.
        """
        if not self.is_scored:
            return {}
        marks: Marks = {}
        path = self.feedback_path
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if stop is not None and stop.is_set():
                        break
                    if line.strip():
                        marks |= _marks_in(line, path, number)
        except OSError as error:
            raise CorruptFileError(f"{path}: {error.strerror}") from error
        return marks

    def _attempt(self, stage: Stage) -> AttemptDir:
        return self.run_dir.attempt(self.round.round, stage, self.round.stages[stage].attempt)


def sampled_rounds(run_dir: RunDir, state: RunState) -> list[RoundRows]:
    """Returns the rounds in which sampling has begun, oldest first."""
    return [RoundRows(run_dir, round) for round in state.rounds if "sample" in round.stages]


def pick_round(rounds: list[RoundRows], number: int | None, *, run: str) -> RoundRows:
    """Returns the round of that number, or the newest. Raises UsageError where there is none."""
    for rows in reversed(rounds):
        if number in (None, rows.round.round):
            return rows
    if not rounds:
        raise UsageError(f"the run {run} has not sampled anything yet")
    known = f"1 to {rounds[-1].round.round}"
    raise UsageError(f"the run {run} has no round {number} with completions; it has {known}")


def penalty_of(completion: Completion) -> str:
    """Says how training sees less than the judge's reward; "" without a penalty."""
    if completion.penalty is None:
        return ""
    return f", less {number(completion.penalty)} in training"


def components_of(completion: Completion) -> str:
    """Says of which scores a reward is the mean: " (clear 4, true 8)"; "" where it is one alone."""
    if len(completion.components) < 2:
        return ""
    scores = (f"{name} {number(score)}" for name, score in completion.components.items())
    return f" ({', '.join(scores)})"


def num_tokens(completion: Completion) -> int:
    return len(completion.token_ids)


def alike(group: Group) -> list[int]:
    """Returns for each completion the place of the first one that is the same answer."""
    return first_alike(group.completions, [num_tokens(one) for one in group.completions])


def last_user_message(prompt: Sequence[Message]) -> str:
    """Returns what the model was asked, without what was said before."""
    users = [turn for turn in prompt if turn["role"] == "user"]
    return text_of((users or prompt)[-1]) if prompt else ""


@dataclass(frozen=True, slots=True)
class PairRow:
    """This is one pair in a table; `position` is its line in the feedback, or its group's line.

    `derived` are the indexes of chosen and rejected in the group; None for a pair of the feedback.
    """

    round: int
    position: int
    prompt_id: str
    margin: float
    derived: tuple[int, int] | None = None


class _Pair(msgspec.Struct):
    prompt_id: str
    reward_chosen: float
    reward_rejected: float


_pair_decoder = msgspec.json.Decoder(_Pair)


def pair_rows(rows: RoundRows, index: RoundIndex, prompts: Names, stop: Event) -> list[PairRow]:
    """Returns pairs in the order of the prompts, or those read so far once `stop` is set.

    Raises CorruptFileError for feedback that cannot be read.
    """
    if rows.is_scored and _is_pairwise(rows):
        return list(_of_feedback(rows, stop))
    found: list[PairRow] = []
    for group in range(index.num_groups):
        if stop.is_set():
            break
        found.extend(_derived(index, group, prompts))
    return found


def derived_pair(group: Group, chosen: int, rejected: int) -> PreferencePair:
    """Returns the pair of two completions of a scored group."""
    one, other = group.completions[chosen], group.completions[rejected]
    assert one.reward is not None
    assert other.reward is not None
    return PreferencePair(
        prompt_id=group.prompt_id,
        prompt=group.prompt,
        prompt_token_ids=group.prompt_token_ids,
        chosen=one,
        rejected=other,
        reward_chosen=one.reward,
        reward_rejected=other.reward,
    )


def _is_pairwise(rows: RoundRows) -> bool:
    feedback = rows.round.settings.get("label", {}).get("feedback", {})
    return bool(feedback.get("kind") == "pairwise")


def _of_feedback(rows: RoundRows, stop: Event) -> Iterator[PairRow]:
    position = 0
    try:
        with rows.feedback_path.open("rb") as file:
            for line in file:
                if stop.is_set() or not line.endswith(b"\n"):
                    return
                pair = _pair_decoder.decode(line)
                margin = pair.reward_chosen - pair.reward_rejected
                yield PairRow(rows.round.round, position, pair.prompt_id, margin)
                position += len(line)
    except OSError as error:
        raise CorruptFileError(f"{rows.feedback_path}: {error.strerror}") from error
    except BAD_JSON as error:
        raise CorruptFileError(f"{rows.feedback_path}, byte {position}: {error}") from error


def _derived(index: RoundIndex, group: int, prompts: Names) -> Iterator[PairRow]:
    """Pairs the best with the worst, among equals the one sampled first; none without a margin."""
    scored = [number for number in index.rows_of(group) if not isnan(index.rewards[number])]
    if not scored:
        return
    best = max(scored, key=index.rewards.__getitem__)
    worst = min(scored, key=index.rewards.__getitem__)
    margin = index.rewards[best] - index.rewards[worst]
    if margin > 0:
        first = index.first_rows[group]
        prompt_id = prompts.texts[index.prompt_codes[group]]
        position = index.offsets[group]
        yield PairRow(index.round, position, prompt_id, margin, (best - first, worst - first))


class _Completion(msgspec.Struct):
    completion_id: str


class _Feedback(msgspec.Struct):
    """This struct reads any kind of feedback, as far as it marks completions."""

    prompt_id: str
    chosen: _Completion | None = None
    rejected: _Completion | None = None
    completion: _Completion | None = None
    is_desirable: bool = False

    def marks(self) -> Iterator[tuple[str, Mark]]:
        if self.chosen is not None:
            yield self.chosen.completion_id, "chosen"
        if self.rejected is not None:
            yield self.rejected.completion_id, "rejected"
        if self.completion is not None:
            yield self.completion.completion_id, "desirable" if self.is_desirable else "undesirable"


_feedback_decoder = msgspec.json.Decoder(_Feedback)


def _marks_in(line: bytes, path: Path, number: int) -> Marks:
    try:
        feedback = _feedback_decoder.decode(line)
    except BAD_JSON as error:
        raise CorruptFileError(f"{path}, line {number}: {error}") from error
    return {(feedback.prompt_id, completion_id): mark for completion_id, mark in feedback.marks()}

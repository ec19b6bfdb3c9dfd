"""Reads what a round's feedback made of its completions: the pairs, and a mark for each completion.

Where the feedback has no pairs, the best of each group is set against its worst. Marks are read
without decoding the texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from threading import Event

import msgspec
from halos_backend.errors import CorruptFileError
from halos_backend.records import BAD_JSON, Group, PreferencePair

from halos_tui.completions.round_index import Names, RoundIndex
from halos_tui.completions.round_rows import Mark, RoundRows

Marks = dict[tuple[str, str], Mark]
"""It holds the marks by (prompt_id, completion_id)."""


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


def read_marks(rows: RoundRows, stop: Event) -> Marks:
    """Returns the marks, or those read so far once `stop` is set; none before the round is
    labelled.

    Raises CorruptFileError naming file and line.
    """
    if not rows.is_scored:
        return {}
    marks: Marks = {}
    try:
        with rows.feedback_path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if stop.is_set():
                    break
                if line.strip():
                    marks |= _marks_in(line, rows.feedback_path, number)
    except OSError as error:
        raise CorruptFileError(f"{rows.feedback_path}: {error.strerror}") from error
    return marks


def _marks_in(line: bytes, path: Path, number: int) -> Marks:
    try:
        feedback = _feedback_decoder.decode(line)
    except BAD_JSON as error:
        raise CorruptFileError(f"{path}, line {number}: {error}") from error
    return {(feedback.prompt_id, completion_id): mark for completion_id, mark in feedback.marks()}

"""Reads the rows of a round: its groups of completions with their rewards, and its feedback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halos_backend.errors import UsageError
from halos_backend.events import Stage
from halos_backend.records import (
    Completion,
    Feedback,
    Group,
    PreferencePair,
    UnpairedFeedback,
    read_rows,
)
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.state import RunState

from halos_tui.formatting import number

Mark = Literal["chosen", "rejected", "desirable", "undesirable"]


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

    def marks(self) -> dict[tuple[str, str], Mark]:
        """Says what the feedback made of each completion, by (prompt_id, completion_id)."""
        marks: dict[tuple[str, str], Mark] = {}
        for row in self.feedback():
            match row:
                case PreferencePair(prompt_id=prompt_id):
                    marks[prompt_id, row.chosen.completion_id] = "chosen"
                    marks[prompt_id, row.rejected.completion_id] = "rejected"
                case UnpairedFeedback(prompt_id=prompt_id):
                    mark: Mark = "desirable" if row.is_desirable else "undesirable"
                    marks[prompt_id, row.completion.completion_id] = mark
                case Group():
                    pass
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


def num_tokens(completion: Completion) -> int:
    return len(completion.token_ids)

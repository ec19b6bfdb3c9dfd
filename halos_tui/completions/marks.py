"""What the feedback of a round made of each completion, without decoding the texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import msgspec
from halos_backend.errors import CorruptFileError
from halos_backend.records import BAD_JSON

from halos_tui.completions.round_rows import Mark, RoundRows

Marks = dict[tuple[str, str], Mark]
"""By (prompt_id, completion_id)."""


class _Completion(msgspec.Struct):
    completion_id: str


class _Feedback(msgspec.Struct):
    """Any kind of feedback, as far as it marks completions."""

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


_decoder = msgspec.json.Decoder(_Feedback)


def read_marks(rows: RoundRows, stop: Event) -> Marks:
    """Those read so far once `stop` is set; none before the round is labelled.

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
        feedback = _decoder.decode(line)
    except BAD_JSON as error:
        raise CorruptFileError(f"{path}, line {number}: {error}") from error
    return {(feedback.prompt_id, completion_id): mark for completion_id, mark in feedback.marks()}

"""Owns all completions of a run: an index that grows with the run, and rows decoded when seen.

`update` runs in a thread of its own; `row` only looks in memory; what else reads files belongs into
a thread as well.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

import msgspec
from halos_backend.errors import CorruptFileError
from halos_backend.records import BAD_JSON, Group, PreferencePair
from halos_backend.store.own_words import NO_MARKS, OwnMark
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

from halos_tui.completions.query import (
    CompletionQuery,
    Selection,
    Tables,
    key_of,
    select,
    split_key,
)
from halos_tui.completions.round_index import CompletionRow, Names, RoundIndex, id_hash
from halos_tui.completions.round_rows import (
    MARKS,
    Marks,
    PairRow,
    RoundRows,
    derived_pair,
    pair_rows,
    sampled_rounds,
)
from halos_tui.tracking.rounds import FINAL

GROUPS_KEPT = 32

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """Says how far an update is: bytes of the new files, completions in the whole index."""

    num_bytes_read: int
    num_bytes: int
    num_completions: int


class CompletionsIndex:
    """Indexes the completions of one run. Keys of a selection hold until `generation` changes.

    It does when a round's rows come from another file: it was labelled, or sampled anew.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.own_marks = NO_MARKS
        """Whoever owns the index says what they are."""
        self.generation = 0
        self._indexes: dict[int, RoundIndex] = {}
        self._rows: dict[int, RoundRows] = {}
        self._whole: dict[int, tuple[bool, int]] = {}
        self._prompts = Names()
        self._reasons = Names()
        self._decoded: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._lock = Lock()

    def update(
        self, state: RunState, stop: Event, rounds: Container[int] | None = None
    ) -> Iterator[IndexProgress]:
        """Takes in what is new of these or all rounds, the newest first; yields every MiB or so.

        A round whose file changed keeps its old rows until the new ones are read.
        """
        self._rows = {rows.round.round: rows for rows in sampled_rounds(self.run_dir, state)}
        due = [
            rows
            for rows in reversed(self._rows.values())
            if (rounds is None or rows.round.round in rounds) and self._is_due(rows)
        ]
        total = sum(self._num_new_bytes(rows) for rows in due)
        read = 0
        for rows in due:
            for count in self._update_round(rows, stop):
                read += count
                yield IndexProgress(read, max(read, total), self.num_completions)
            if stop.is_set():
                return

    @property
    def num_completions(self) -> int:
        return sum(len(index) for index in self._all())

    @property
    def rounds(self) -> list[int]:
        """Returns the rounds with completions, oldest first; also those that are not read yet."""
        return [round for round, rows in self._rows.items() if self._has_any(round, rows)]

    def _has_any(self, round: int, rows: RoundRows) -> bool:
        index = self._indexes.get(round)
        return _size(rows.groups_path) > 0 if index is None else len(index) > 0

    def num_in(self, round: int) -> int:
        """Counts the completions of one round."""
        index = self._indexes.get(round)
        return 0 if index is None else len(index)

    @property
    def problems(self) -> list[str]:
        """Names the files that have lines which are no groups; such lines are left out."""
        return [index.problem for index in self._all() if index.problem]

    def select(self, query: CompletionQuery, stop: Event) -> Iterator[Selection]:
        """Yields ever longer selections. Raises UsageError for a pattern that takes too long."""
        marks_of = partial(self._marks_of, stop=stop)
        tables = Tables(self._prompts, self._reasons, marks_of, self._own_of)
        return select(self._all(), query, tables, stop)

    def row(self, key: int) -> CompletionRow | None:
        """Returns a completion of a selection; None when its generation is over and it is gone."""
        round, number = split_key(key)
        index = self._indexes.get(round)
        return None if index is None or number >= len(index) else index.row(number)

    def first_key(self, round: int, prompt_id: str) -> int | None:
        """Returns the key of a prompt's first completion in a round; None where there is none."""
        index, code = self._indexes.get(round), self._prompts.known_code(prompt_id)
        if index is None or code is None or code not in index.prompt_codes:
            return None
        group = index.prompt_codes.index(code)
        return key_of(round, index.first_rows[group]) if group < index.num_groups else None

    def over_rounds(self, key: int) -> list[tuple[str, int]]:
        """Returns the rounds in which the same prompt is, in words, each with the key of its first
        completion there. Held-out prompts are others, whatever they are called.
        """
        row = self.row(key)
        if row is None:
            return []
        is_held_out = self._is_held_out(row.round)
        found = [
            (round, self.first_key(round, row.prompt_id))
            for round in sorted(self._indexes)
            if self._is_held_out(round) == is_held_out
        ]
        return [(self._name_of(round), key) for round, key in found if key is not None]

    def _name_of(self, round: int) -> str:
        rows = self._rows.get(round)
        is_final = rows is not None and rows.round.closing is not None
        return FINAL if is_final else f"round {round}"

    def _is_held_out(self, round: int) -> bool:
        rows = self._rows.get(round)
        return rows is not None and rows.round.closing == "held_out"

    def group_keys(self, key: int) -> list[int]:
        """Returns the keys of all completions of the same prompt in the same round."""
        round, number = split_key(key)
        index = self._indexes.get(round)
        if index is None or number >= len(index):
            return []
        return [key_of(round, beside) for beside in index.rows_of(index.group_of(number))]

    def group(self, round: int, position: int) -> Group:
        """Returns the group whose line starts there. Raises CorruptFileError when it cannot be
        read.
        """
        index = self._indexes.get(round)
        if index is None:
            raise CorruptFileError(f"round {round} of {self.run_dir.path} has no completions")
        return self._decode(index.path, position, Group)

    def pairs(self, round: int, stop: Event) -> list[PairRow]:
        """Returns a round's pairs in the order of the prompts, from its feedback or else derived.

        Raises CorruptFileError for feedback that cannot be read.
        """
        index, rows = self._indexes.get(round), self._rows.get(round)
        if index is None or rows is None:
            return []
        return pair_rows(rows, index, self._prompts, stop)

    def marks(self, round: int, stop: Event) -> Marks:
        """Returns what the feedback of a round made of its completions.

        Raises CorruptFileError for feedback that cannot be read.
        """
        rows = self._rows.get(round)
        return {} if rows is None else rows.marks(stop)

    def pair(self, row: PairRow) -> PreferencePair:
        """Returns the pair of a row. Raises CorruptFileError when it cannot be read."""
        if row.derived is not None:
            return derived_pair(self.group(row.round, row.position), *row.derived)
        path = self._rows[row.round].feedback_path
        return self._decode(path, row.position, PreferencePair)

    def memory_bytes(self) -> int:
        """Counts the bytes of the index, without the decoded groups."""
        names = self._prompts.memory_bytes() + self._reasons.memory_bytes()
        return names + sum(index.memory_bytes() for index in self._all())

    def _marks_of(self, index: RoundIndex, *, stop: Event) -> array[int]:
        """Returns the places in MARKS, from 1 on, of a round's completions; 0 where there is none.

        Feedback that cannot be read is named like lines that are no groups.
        """
        if index.marks is not None and len(index.marks) == len(index):
            return index.marks
        try:
            marks = self.marks(index.round, stop)
        except CorruptFileError as error:
            marks, index.problem = {}, index.problem or str(error)
        codes = {id_hash(*of): MARKS.index(mark) + 1 for of, mark in marks.items()}
        found = array("B", (codes.get(id, 0) for id in index.ids[: len(index)]))
        if not stop.is_set() and index.num_bytes_read >= _size(index.path):
            index.marks = found
        return found

    def _own_of(self, index: RoundIndex) -> dict[int, OwnMark]:
        """Returns the person's own marks on a round's completions, by their numbers."""
        marks = {
            id_hash(mark.prompt_id, mark.completion_id): mark
            for mark in self.own_marks.of.values()
            if mark.round == index.round
        }
        if not marks:
            return {}
        return {number: marks[id] for number, id in enumerate(index.ids) if id in marks}

    def _all(self) -> list[RoundIndex]:
        return [self._indexes[round] for round in sorted(self._indexes)]

    def _is_due(self, rows: RoundRows) -> bool:
        """Says whether rows must be read again: a labelled round that is read to its end never
        changes.
        """
        return self._whole.get(rows.round.round) != _source(rows)

    def _is_same_file(self, rows: RoundRows) -> bool:
        index = self._indexes.get(rows.round.round)
        return index is not None and index.path == rows.groups_path

    def _num_new_bytes(self, rows: RoundRows) -> int:
        known = self._indexes[rows.round.round].num_bytes_read if self._is_same_file(rows) else 0
        size = _size(rows.groups_path)
        return size - known if size >= known else size

    def _update_round(self, rows: RoundRows, stop: Event) -> Iterator[int]:
        round, path = rows.round.round, rows.groups_path
        before = self._indexes.get(round)
        if before is not None and before.path == path and _size(path) >= before.num_bytes_read:
            index = before
        else:
            index = RoundIndex(round, path, prompts=self._prompts, reasons=self._reasons)
        if before is None:
            self._indexes[round] = index
        yield from index.grow(stop)
        if stop.is_set():
            return
        if before is not None and index is not before:
            self._indexes[round] = index
            self.generation += 1
            with self._lock:
                self._decoded.clear()
        if rows.is_scored and len(index):
            self._whole[round] = _source(rows)

    def _decode(self, path: Path, position: int, row_type: type[RowT]) -> RowT:
        with self._lock:
            kept = self._decoded.get((path, position))
            if kept is not None:
                self._decoded.move_to_end((path, position))
                return kept  # type: ignore[no-any-return]
        row = _read_row(path, position, row_type)
        with self._lock:
            self._decoded[path, position] = row
            if len(self._decoded) > GROUPS_KEPT:
                self._decoded.popitem(last=False)
        return row


def _source(rows: RoundRows) -> tuple[bool, int]:
    """Says which file the rows come from, without joining its path: it is called for every
    round.
    """
    stage = rows.round.stages["label" if rows.is_scored else "sample"]
    return rows.is_scored, stage.attempt


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_row(path: Path, position: int, row_type: type[RowT]) -> RowT:
    try:
        with path.open("rb") as file:
            file.seek(position)
            line = file.readline()
        return msgspec.json.decode(line, type=row_type)
    except OSError as error:
        raise CorruptFileError(f"{path}: {error.strerror}") from error
    except BAD_JSON as error:
        raise CorruptFileError(f"{path}, byte {position}: {error}") from error

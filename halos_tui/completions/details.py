"""Decodes the completions that are in sight, and lays out the one at the cursor.

`read` belongs into a thread of its own, so that no long search keeps a row waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import TypeVar

from halos_backend.errors import CorruptFileError
from halos_backend.records import Group, PreferencePair
from halos_backend.store.own_words import OwnMarks

from halos_tui.completions.index import CompletionsIndex
from halos_tui.completions.page import PageMaker, mark_of, own_mark_of
from halos_tui.completions.round_index import CompletionRow
from halos_tui.completions.round_rows import Marks, PairRow
from halos_tui.completions.view import DetailsQuery, OfRound, Preview, Seen
from halos_tui.formatting import visible
from halos_tui.text_layout import Page, laid_out

PREVIEW_CHARACTERS = 240
ROUNDS_KEPT = 2

Kept = TypeVar("Kept")
Remembered = OrderedDict[tuple[int, int], tuple[Kept | None, str]]
"""By round and generation of the index, it holds what was read and what was wrong."""

Pairs = dict[str, list[PairRow]]
"""It holds the pairs by prompt_id."""


class CompletionDetails:
    """Answers for what is in sight: `ask` and `close` may be called from any thread, and only the
    last question is answered.
    """

    def __init__(self, index: CompletionsIndex, *, is_ascii: bool = False) -> None:
        self._index = index
        self._is_ascii = is_ascii
        self._is_closed = Event()
        self._asked: DetailsQuery | None = None
        self._answered: DetailsQuery | None = None
        self._marks: Remembered[Marks] = OrderedDict()
        self._pairs: Remembered[Pairs] = OrderedDict()
        self._problem = ""

    def ask(self, query: DetailsQuery) -> None:
        self._asked = query

    def close(self) -> None:
        self._is_closed.set()

    def read(self) -> Seen | None:
        """Returns None where nothing else is in sight than before."""
        query = self._asked
        if query is None or query == self._answered:
            return None
        self._problem = ""
        previews = {key: self._preview(key, query.own_marks) for key in query.keys}
        seen = self._paged(Seen(query, previews))
        self._answered = query
        return seen

    def _preview(self, key: int, own_marks: OwnMarks) -> Preview:
        row = self._index.row(key)
        group = self._group(row)
        if row is None or group is None:
            return Preview("")
        text = visible(group.completions[row.index].text[:PREVIEW_CHARACTERS])
        mark = mark_of(group, row.index, self._marks_of(row.round))
        return Preview(text, mark, own_mark_of(group, row.index, row.round, own_marks))

    def _paged(self, seen: Seen) -> Seen:
        query = seen.query
        row = None if query.cursor is None else self._index.row(query.cursor)
        if row is None:
            return seen
        group = self._group(row)
        if group is None:
            return replace(seen, page=self._trouble(self._problem))
        maker = PageMaker(
            query.width,
            is_ascii=self._is_ascii,
            hits=query.hits,
            marks=self._marks_of(row.round),
            own_marks=query.own_marks,
        )
        seen = replace(seen, group=group, index=row.index)
        match query.kind:
            case "completion":
                page = maker.completion(group, row.index, round=row.round)
            case "group":
                page = maker.group(group, round=row.round)
            case "pair":
                return self._compared(seen, row, maker)
            case "rounds":
                rounds = self._over_rounds(query.cursor)
                page = replace(maker, marks={}).rounds(rounds)  # ids are those of a round
                seen = replace(seen, rounds=rounds)
        if self._problem:
            page = replace(page, lines=(*self._trouble(self._problem).lines, *page.lines))
        return replace(seen, page=page)

    def _over_rounds(self, key: int | None) -> tuple[OfRound, ...]:
        found = []
        for name, first in [] if key is None else self._index.over_rounds(key):
            row = self._index.row(first)
            if row is not None and (group := self._group(row)) is not None:
                found.append(OfRound(row.round, name, group))
        return tuple(found)

    def _compared(self, seen: Seen, row: CompletionRow, maker: PageMaker) -> Seen:
        assert seen.group is not None
        chosen_row, pair = self._pair_of(row, seen.group)
        if pair is None or chosen_row is None:
            why = self._problem or (
                f"no pair of the prompt {row.prompt_id}: its completions have no two different"
                " rewards, or the round is not labelled yet"
            )
            return replace(seen, page=self._trouble(why))
        is_derived = chosen_row.derived is not None
        page = maker.pair(pair, round=row.round, is_derived=is_derived)
        return replace(seen, page=page, pair=pair)

    def _pair_of(
        self, row: CompletionRow, group: Group
    ) -> tuple[PairRow | None, PreferencePair | None]:
        """Returns a pair that the completion is in, else the first pair of its prompt."""
        wanted = group.completions[row.index].completion_id
        first: tuple[PairRow | None, PreferencePair | None] = (None, None)
        for candidate in self._pairs_of(row.round).get(row.prompt_id, ()):
            if candidate.derived is not None and candidate.position != row.position:
                continue
            try:
                pair = self._index.pair(candidate)
            except CorruptFileError as error:
                self._problem = str(error)
                continue
            if wanted in (pair.chosen.completion_id, pair.rejected.completion_id):
                return candidate, pair
            if first[0] is None:
                first = (candidate, pair)
        return first

    def _group(self, row: CompletionRow | None) -> Group | None:
        if row is None:
            return None
        try:
            group = self._index.group(row.round, row.position)
        except CorruptFileError as error:
            self._problem = str(error)
            return None
        return group if row.index < len(group.completions) else None

    def _marks_of(self, round: int) -> Marks:
        return self._remembered(self._marks, round, self._read_marks) or {}

    def _pairs_of(self, round: int) -> Pairs:
        return self._remembered(self._pairs, round, self._read_pairs) or {}

    def _read_marks(self, round: int) -> Marks:
        return self._index.marks(round, self._is_closed)

    def _read_pairs(self, round: int) -> Pairs:
        pairs: Pairs = {}
        for pair in self._index.pairs(round, self._is_closed):
            pairs.setdefault(pair.prompt_id, []).append(pair)
        return pairs

    def _remembered(
        self, memory: Remembered[Kept], round: int, read: Callable[[int], Kept]
    ) -> Kept | None:
        """Returns what was read of a round, and what was wrong with it, until its files change."""
        about = (round, self._index.generation)
        if about not in memory:
            try:
                memory[about] = read(round), ""
            except CorruptFileError as error:
                memory[about] = None, str(error)
            while len(memory) > ROUNDS_KEPT:
                memory.popitem(last=False)
        found, problem = memory[about]
        self._problem = problem or self._problem
        return found

    def _trouble(self, why: str) -> Page:
        width = self._asked.width if self._asked else 80
        return Page(tuple(laid_out([(why, "warning")], width, is_ascii=self._is_ascii)))

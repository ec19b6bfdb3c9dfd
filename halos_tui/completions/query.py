"""Selects the completions that a person wants to see, and puts them in order.

Numbers are compared in the index; only a search for text reads the files, line by line.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, isnan
from threading import Event
from typing import Literal

import msgspec
from halos_backend.records import BAD_JSON, Message, text_of

from halos_tui.completions.round_index import Names, RoundIndex
from halos_tui.search_term import SearchTerm

Order = Literal["sampled", "reward", "length"]

BATCH_GROUPS = 500
REORDER_AT = 1.25
"""A selection is sorted anew when it has grown by this factor."""
ROW_BITS = 32


@dataclass(frozen=True)
class CompletionQuery:
    """A completion must meet all conditions. The best or longest come first unless `ascending`.

    Completions without a value come last, equal ones as they were sampled. `term` may be in the
    prompt or the completion.
    """

    rounds: frozenset[int] | None = None
    term: SearchTerm | None = None
    prompt_id: str | None = None
    truncated_only: bool = False
    unscored_only: bool = False
    order: Order = "sampled"
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Says what is found so far, in order, as keys for `CompletionsIndex.row`; and how far it
    is.
    """

    keys: array[int]
    num_searched: int
    num_groups: int

    @property
    def is_done(self) -> bool:
        return self.num_searched == self.num_groups


class _Text(msgspec.Struct):
    text: str


class _Texts(msgspec.Struct):
    prompt: list[Message]
    completions: list[_Text]


_decoder = msgspec.json.Decoder(_Texts)


def key_of(round: int, number: int) -> int:
    return round << ROW_BITS | number


def split_key(key: int) -> tuple[int, int]:
    """Returns (round, number of the completion in it)."""
    return key >> ROW_BITS, key & (1 << ROW_BITS) - 1


def select(
    indexes: Sequence[RoundIndex], query: CompletionQuery, prompts: Names, stop: Event
) -> Iterator[Selection]:
    """Yields ever longer selections; the last one is whole unless `stop` was set. Raises
    UsageError.
    """
    wanted = [index for index in indexes if query.rounds is None or index.round in query.rounds]
    num_groups = [index.num_groups for index in wanted]
    found: array[int] = array("Q")
    shown: array[int] = array("Q")
    searched = 0
    for index, count in zip(wanted, num_groups, strict=True):
        for start in range(0, count, BATCH_GROUPS):
            if stop.is_set():
                return
            groups = range(start, min(count, start + BATCH_GROUPS))
            found.extend(
                key_of(index.round, number) for number in _matching(index, groups, query, prompts)
            )
            searched += len(groups)
            if query.term is not None and searched < sum(num_groups):
                if len(found) > REORDER_AT * len(shown):
                    shown = _ordered(found, wanted, query)
                yield Selection(shown, searched, sum(num_groups))
    yield Selection(_ordered(found, wanted, query), searched, sum(num_groups))


def _matching(
    index: RoundIndex, groups: range, query: CompletionQuery, prompts: Names
) -> Iterator[int]:
    if query.prompt_id is not None:
        code = prompts.known_code(query.prompt_id)
        chosen = [group for group in groups if index.prompt_codes[group] == code]
    else:
        chosen = list(groups)
    by_numbers = ((group, _kept(index, index.rows_of(group), query)) for group in chosen)
    candidates = ((group, rows) for group, rows in by_numbers if rows)
    if query.term is None:
        for _, rows in candidates:
            yield from rows
    else:
        yield from _with_text(index, candidates, query.term)


def _kept(index: RoundIndex, rows: range, query: CompletionQuery) -> Sequence[int]:
    kept: Sequence[int] = rows
    if query.truncated_only:
        kept = [number for number in kept if index.truncated[number]]
    if query.unscored_only:
        kept = [number for number in kept if index.is_unscored(number)]
    return kept


def _with_text(
    index: RoundIndex, candidates: Iterator[tuple[int, Sequence[int]]], term: SearchTerm
) -> Iterator[int]:
    """Yields completions that have the term. A file that is gone has none; the index drops it
    later.
    """
    try:
        file = index.path.open("rb")
    except OSError:
        return
    with file:
        position = 0
        for group, rows in candidates:
            offset = index.offsets[group]
            if position != offset:
                file.seek(offset)
            line = file.readline()
            position = offset + len(line)
            if not term.may_be_in(line):
                continue
            first = index.first_rows[group]
            matches = _matches(line, term)
            yield from (number for number in rows if matches(number - first))


def _matches(line: bytes, term: SearchTerm) -> Callable[[int], bool]:
    """Reads a group's line; says of an index whether its completion, or the prompt, has the
    term.
    """
    try:
        texts = _decoder.decode(line)
    except BAD_JSON:
        return lambda _: False
    if any(term.is_in(text_of(message)) for message in texts.prompt):
        return lambda _: True
    return lambda at: at < len(texts.completions) and term.is_in(texts.completions[at].text)


def _ordered(keys: array[int], indexes: Sequence[RoundIndex], query: CompletionQuery) -> array[int]:
    if query.order == "sampled":
        return array("Q", reversed(keys)) if query.ascending else array("Q", keys)
    by_round = {
        index.round: index.rewards if query.order == "reward" else index.num_tokens
        for index in indexes
    }
    sign = 1.0 if query.ascending else -1.0

    def rank(key: int) -> float:
        round, number = split_key(key)
        value = by_round[round][number]
        return inf if isnan(value) else sign * value

    return array("Q", sorted(keys, key=rank))

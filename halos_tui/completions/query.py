"""Selects the completions that a person wants to see, and puts them in order.

Numbers are compared in the index, and what the feedback made of completions is read once a round;
only a search for text reads the files, line by line.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf, isnan
from threading import Event
from typing import Literal

import msgspec
from halos_backend.errors import UsageError
from halos_backend.records import BAD_JSON, Message, text_of
from halos_backend.store.own_words import OwnMark

from halos_tui.completions.round_index import Names, RoundIndex
from halos_tui.completions.round_rows import MARKS
from halos_tui.filter_terms import COMPARISONS, Term, check_number, checked, nearest, split_terms
from halos_tui.search_term import SearchTerm, pattern_term, plain_term, read_term

Order = Literal["sampled", "reward", "length"]
Scope = Literal["all", "prompt", "text"]
"""It says where a text is looked for: in the prompt, in the completion, or in both."""

NUMBERS = ("reward", "len", "length", "tokens", "round")
TEXTS = ("text", "prompt")
WITH_TEXT = ("unscored", "note")
"""`unscored:` stands alone, and `unscored:text` looks for a text in the reason."""
ALONE = ("cut", "marked", *WITH_TEXT, *MARKS)
FIELDS = (*NUMBERS, "id", *TEXTS, *ALONE)
LIKE_A_FIELD = 0.8
"""From this likeness on an unknown field is a mistake and not a text with a colon in it."""

BATCH_GROUPS = 500
REORDER_AT = 1.25
"""A selection is sorted anew when it has grown by this factor."""
ROW_BITS = 32


@dataclass(frozen=True)
class Search:
    """This is a text to look for, or to look for the lack of."""

    term: SearchTerm
    scope: Scope = "all"
    is_negated: bool = False


@dataclass(frozen=True)
class CompletionFilter:
    """A completion fits when all terms and all searches hold. `typed` is how it was written."""

    terms: tuple[Term, ...] = ()
    searches: tuple[Search, ...] = ()
    typed: str = ""

    @property
    def is_about_rounds(self) -> bool:
        return any(term.field == "round" for term in self.terms)

    @property
    def is_about_feedback(self) -> bool:
        return any(term.field in MARKS for term in self.terms)

    @property
    def is_about_own_marks(self) -> bool:
        return any(term.field in ("marked", "note") for term in self.terms)

    @property
    def hits(self) -> tuple[SearchTerm, ...]:
        """Returns what a page marks."""
        return tuple(search.term for search in self.searches if not search.is_negated)

    def __and__(self, other: CompletionFilter) -> CompletionFilter:
        typed = f"{self.typed} {other.typed}".strip()
        return CompletionFilter(self.terms + other.terms, self.searches + other.searches, typed)


EVERYTHING = CompletionFilter()


def read_filter(text: str) -> CompletionFilter | None:
    """Reads what a person typed: words, fields, or a pattern after a slash; None for nothing yet.

    Words beside each other are looked for as they stand, in prompt and completion. Raises
    UsageError naming the term that makes no sense.
    """
    typed = text.lstrip()
    if typed.startswith("/"):
        pattern = read_term(typed)
        if pattern is None:
            return None
        return CompletionFilter(searches=(Search(pattern),), typed=typed)
    terms: list[Term] = []
    searches: list[Search] = []
    for are_words, found in groupby(split_terms(typed), key=_is_word):
        if are_words:
            phrase = read_term(" ".join(term.source for term in found))
            searches += [] if phrase is None else [Search(phrase)]
            continue
        for term in found:
            if term.field and term.field not in TEXTS:
                terms.append(_of_numbers(term))
            elif term.value or term.field:
                searches.append(_search(term))
    return CompletionFilter(tuple(terms), tuple(searches), typed) if terms or searches else None


def _is_word(term: Term) -> bool:
    """Says whether it is a word as it stands. Raises UsageError for a field that is misspelt."""
    if not term.field:
        return term.is_plain
    if term.field in FIELDS:
        return False
    if meant := nearest(term.field, FIELDS, cutoff=LIKE_A_FIELD):
        raise UsageError(f"no field '{term.field}', did you mean {meant}? Quotes make it a text")
    return True


def _search(term: Term) -> Search:
    scope: Scope = "all"
    if term.field:
        if term.operator not in (":", "~"):
            raise UsageError(f"'{term.source}': behind {term.field} stand ':' or '~', and a text")
        scope = "prompt" if term.field == "prompt" else "text"
        checked(term)
    wanted = pattern_term(term.value) if term.operator == "~" else plain_term(term.value)
    return Search(wanted, scope, term.is_negated)


def _of_numbers(term: Term) -> Term:
    """Returns a term that the index can tell of. Raises UsageError where it makes no sense."""
    if term.field in ALONE:
        if term.field in WITH_TEXT and term.value and term.operator in (":", "~"):
            return checked(term)
        if term.value or term.operator != ":":
            raise UsageError(f"'{term.source}': '{term.field}:' stands alone")
        return term
    checked(term)
    if term.field in NUMBERS:
        check_number(term)
        if term.operator == "~":
            raise UsageError(f"'{term.source}': a number has no pattern; try <, > or =")
    return term


@dataclass(frozen=True)
class CompletionQuery:
    """The best or longest come first unless `ascending`. Completions without a value come last,
    equal ones as they were sampled. With `is_folded` the first of the same answers of a group
    stands for all of them that fit.
    """

    rounds: frozenset[int] | None = None
    filter: CompletionFilter = EVERYTHING
    order: Order = "sampled"
    ascending: bool = False
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Says what is found so far, in order, as keys for `CompletionsIndex.row`; and how far it
    is. `num_fitting` also counts those that are folded.
    """

    keys: array[int]
    num_fitting: int
    num_searched: int
    num_groups: int

    @property
    def is_done(self) -> bool:
        return self.num_searched == self.num_groups


@dataclass(frozen=True)
class Tables:
    """Says what the codes of an index stand for.

    `marks_of` reads what the feedback made of a round's completions: places in MARKS from 1 on.
    `own_of` returns a person's own marks on some of them, by their numbers.
    """

    prompts: Names
    reasons: Names
    marks_of: Callable[[RoundIndex], Sequence[int]]
    own_of: Callable[[RoundIndex], Mapping[int, OwnMark]]


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
    indexes: Sequence[RoundIndex], query: CompletionQuery, tables: Tables, stop: Event
) -> Iterator[Selection]:
    """Yields ever longer selections; the last one is whole unless `stop` was set. Raises
    UsageError.
    """
    wanted = [index for index in indexes if _is_of_round(index.round, query)]
    num_groups = [index.num_groups for index in wanted]
    found: array[int] = array("Q")
    shown: array[int] = array("Q")
    searched = fitting = 0
    is_slow = bool(query.filter.searches) or query.filter.is_about_feedback
    for index, count in zip(wanted, num_groups, strict=True):
        tests = [_test(index, term, tables) for term in query.filter.terms if term.field != "round"]
        for start in range(0, count, BATCH_GROUPS):
            if stop.is_set():
                return
            groups = range(start, min(count, start + BATCH_GROUPS))
            matching = list(_matching(index, groups, tests, query.filter.searches))
            fitting += len(matching)
            kept = _folded(index, matching) if query.is_folded else matching
            found.extend(key_of(index.round, number) for number in kept)
            searched += len(groups)
            if is_slow and searched < sum(num_groups):
                if len(found) > REORDER_AT * len(shown):
                    shown = _ordered(found, wanted, query)
                yield Selection(shown, fitting, searched, sum(num_groups))
    yield Selection(_ordered(found, wanted, query), fitting, searched, sum(num_groups))


def _is_of_round(round: int, query: CompletionQuery) -> bool:
    if query.rounds is not None and round not in query.rounds:
        return False
    return all(
        term.matches(lambda _: round) for term in query.filter.terms if term.field == "round"
    )


Test = Callable[[int], bool]
"""It says of a completion of a round, by its number, whether a condition holds."""


def _test(index: RoundIndex, term: Term, tables: Tables) -> Test:
    test = _untested(index, term, tables)
    return (lambda number: not test(number)) if term.is_negated else test


def _untested(index: RoundIndex, term: Term, tables: Tables) -> Test:
    """Returns the test of a term before it is turned round; of a missing value nothing is true."""
    match term.field:
        case "reward":
            return _compared(index.rewards, term)
        case "len" | "length" | "tokens":
            return _compared(index.num_tokens, term)
        case "id":
            is_wanted, codes = _named(tables.prompts, term), index.prompt_codes
            return lambda number: is_wanted(codes[index.group_of(number)])
        case "cut":
            return lambda number: index.truncated[number] > 0
        case "unscored" if not term.value:
            return index.is_unscored
        case "unscored":
            is_wanted, reasons = _named(tables.reasons, term), index.unscored
            return lambda number: reasons[number] > 0 and is_wanted(reasons[number] - 1)
        case "marked":
            own = tables.own_of(index)
            return lambda number: number in own and own[number].is_marked
        case "note":
            notes = {number: mark.note for number, mark in tables.own_of(index).items()}
            return lambda number: bool(notes.get(number)) and term.holds(notes[number])
        case mark:
            marks, wanted = tables.marks_of(index), MARKS.index(mark) + 1
            return lambda number: marks[number] == wanted


def _compared(column: Sequence[float], term: Term) -> Test:
    compare, wanted = COMPARISONS[term.operator], term.number

    def test(number: int) -> bool:
        value = column[number]
        return value == value and compare(value, wanted)  # NaN stands where there is no value

    return test


def _named(names: Names, term: Term) -> Test:
    """Returns what looks a name up by its code, each once."""
    known: dict[int, bool] = {}

    def test(code: int) -> bool:
        if code not in known:
            known[code] = term.holds(names.texts[code])
        return known[code]

    return test


def _matching(
    index: RoundIndex, groups: range, tests: Sequence[Test], searches: Sequence[Search]
) -> Iterator[int]:
    by_numbers = ((group, _kept(index.rows_of(group), tests)) for group in groups)
    candidates = ((group, rows) for group, rows in by_numbers if rows)
    if not searches:
        for _, rows in candidates:
            yield from rows
    else:
        yield from _with_text(index, candidates, searches)


def _kept(rows: Sequence[int], tests: Sequence[Test]) -> Sequence[int]:
    for test in tests:
        rows = [number for number in rows if test(number)]
    return rows


def _folded(index: RoundIndex, numbers: Sequence[int]) -> Sequence[int]:
    """Keeps the first of the same answers of each group."""
    if not index.has_alike:
        return numbers
    kept: dict[int, int] = {}
    for number in numbers:
        kept.setdefault(index.firsts[number], number)
    return list(kept.values())


def _with_text(
    index: RoundIndex, candidates: Iterator[tuple[int, Sequence[int]]], searches: Sequence[Search]
) -> Iterator[int]:
    """Yields completions that fit the searches. A file that is gone has none; the index drops it
    later.
    """
    needed = [search.term for search in searches if not search.is_negated]
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
            if not all(term.may_be_in(line) for term in needed):
                continue
            first = index.first_rows[group]
            matches = _matches(line, searches)
            yield from (number for number in rows if matches(number - first))


def _matches(line: bytes, searches: Sequence[Search]) -> Callable[[int], bool]:
    """Reads a group's line; says of an index whether its completion fits the searches."""
    try:
        texts = _decoder.decode(line)
    except BAD_JSON:
        return lambda _: False
    prompt = [text_of(message) for message in texts.prompt]
    open_searches = []
    for search in searches:
        is_in_prompt = search.scope != "text" and any(map(search.term.is_in, prompt))
        if search.scope != "prompt" and not is_in_prompt:
            open_searches.append(search)
        elif is_in_prompt == search.is_negated:
            return lambda _: False
    return lambda at: (
        at < len(texts.completions)
        and all(
            search.term.is_in(texts.completions[at].text) != search.is_negated
            for search in open_searches
        )
    )


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

"""Owns the plain values that the readers of completions are asked for, and those that they give."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from halos_backend.records import Group, PreferencePair
from halos_backend.store.own_words import NO_MARKS, OwnMark, OwnMarks

from halos_tui.completions.query import EVERYTHING, CompletionFilter, Order
from halos_tui.completions.round_rows import Mark
from halos_tui.filter_terms import Term
from halos_tui.search_term import SearchTerm
from halos_tui.text_layout import Page

NEWEST = 0
"""This number means the newest round with completions, as of the first query."""
ALL_ROUNDS = -1

Only = Literal["all", "cut off", "unscored"]
ONLY_FILTERS: Mapping[Only, CompletionFilter] = {
    "all": EVERYTHING,
    "cut off": CompletionFilter((Term("cut", ":", ""),)),
    "unscored": CompletionFilter((Term("unscored", ":", ""),)),
}
ONLY: tuple[Only, ...] = tuple(ONLY_FILTERS)
ORDERS: tuple[Order, ...] = ("sampled", "reward", "length")
PageKind = Literal["completion", "group", "pair", "rounds"]


@dataclass(frozen=True)
class ListQuery:
    """Says which completions to list. `round` is a number, NEWEST or ALL_ROUNDS."""

    round: int = NEWEST
    filter: CompletionFilter | None = None
    only: Only = "all"
    order: Order = "sampled"
    ascending: bool = False

    def listed_round(self, newest: int) -> int:
        """Returns which round that is; a filter that is about rounds is one of all."""
        if self.filter is not None and self.filter.is_about_rounds:
            return ALL_ROUNDS
        return newest if self.round == NEWEST else self.round


@dataclass(frozen=True)
class ListView:
    """This is the list so far: `keys` in order, for the index of that `generation`. Each stands for
    all completions of its group that are the same answer; `num_fitting` counts those.

    `round` is the one of `query`, known once there are completions. Bytes are of files still being
    taken in, groups are those searched.
    """

    query: ListQuery = field(default_factory=ListQuery)
    round: int = NEWEST
    rounds: tuple[int, ...] = ()
    num_rounds: int = 0
    keys: array[int] = field(default_factory=lambda: array("Q"))
    num_fitting: int = 0
    num_completions: int = 0
    generation: int = 0
    num_bytes_read: int = 0
    num_bytes: int = 0
    num_searched: int = 0
    num_groups: int = 0
    problems: tuple[str, ...] = ()
    own_marks: OwnMarks = NO_MARKS


@dataclass(frozen=True)
class DetailsQuery:
    """Says what is in sight: the rows of the list, and the page of the one at the cursor.

    `num_known` counts the completions of the index for a page of several rounds.
    """

    keys: tuple[int, ...] = ()
    cursor: int | None = None
    kind: PageKind = "completion"
    width: int = 80
    hits: tuple[SearchTerm, ...] = ()
    generation: int = 0
    num_known: int = 0
    own_marks: OwnMarks = NO_MARKS


@dataclass(frozen=True)
class Preview:
    """This is the beginning of a completion, and what the feedback and a person made of it."""

    text: str
    mark: Mark | None = None
    own: OwnMark | None = None


class OfRound(NamedTuple):
    """This is the group of a prompt in one round; `name` is the round in words."""

    round: int
    name: str
    group: Group


@dataclass(frozen=True)
class Seen:
    """This is the answer to a question. `page` is None where there is no row at the cursor.

    `rounds` has the group of each round in which the prompt is, where that was asked for.
    """

    query: DetailsQuery
    previews: Mapping[int, Preview]
    page: Page | None = None
    group: Group | None = None
    index: int = 0
    pair: PreferencePair | None = None
    rounds: tuple[OfRound, ...] = ()

    def is_about_the_same(self, other: Seen | None) -> bool:
        """Says whether only the room or the rows around it changed."""
        if other is None:
            return False
        return (self.query.cursor, self.query.kind) == (other.query.cursor, other.query.kind)

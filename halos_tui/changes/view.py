"""Owns what the changes screen asks for, and what it gets to draw. These are plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from halos_tui.changes.comparison import Comparison, Rounds
from halos_tui.changes.entries import Entry
from halos_tui.search_term import SearchTerm
from halos_tui.text_layout import Line

NEWEST = -1
"""This number means the newest entry of the history, whichever that is."""


@dataclass(frozen=True)
class ChangesQuery:
    """`number` is the entry at the cursor. Without `rounds` those around it are compared.

    `width` is that of the page, in cells.
    """

    number: int = NEWEST
    rounds: Rounds | None = None
    term: SearchTerm | None = None
    width: int = 80
    is_ascii: bool = False


@dataclass(frozen=True)
class ChangesView:
    """`entries` fit the term, newest first; `num_entries` counts them without it.

    `lines` are the page that was asked for: what is `found` of `rounds`, and the entry that it is
    `about`, if it is about one. `now` moves on once a minute.
    """

    query: ChangesQuery = field(default_factory=ChangesQuery)
    status: str = ""
    num_rounds: int = 0
    planned: int | None = None
    entries: tuple[Entry, ...] = ()
    num_entries: int = 0
    rounds: Rounds | None = None
    last: int = 0
    lines: tuple[Line, ...] = ()
    found: Comparison | None = None
    about: Entry | None = None
    now: float = 0.0

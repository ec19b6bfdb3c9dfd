"""This widget lists changes: when, from which round, what, by whom, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass

from halos_tui.changes.entries import Entry, Fate
from halos_tui.changes.view import NEWEST
from halos_tui.changes.wording import FATES, age
from halos_tui.formatting import date_time, visible
from halos_tui.text_layout import shown as shown_text
from halos_tui.widgets.panel import Line, Paced, beside
from halos_tui.widgets.virtual_list import VirtualList

WITH_DATE, WITH_WORDS = 60, 44
"""From these widths on there is room for the date beside the age, and for whole words about what
became of a change."""
NUM_LETTERS = 4
MOST_SHOWN = 500
"""A change shows at most so many characters; no list is wider."""
STYLES: dict[Fate, str] = {
    "holds": "",
    "replaced": "muted",
    "waits": "accent",
    "beyond": "warning",
    "unused": "muted",
    "refused": "bad",
    "told": "warning",
}
NOTHING = "nothing was changed; any two rounds can be compared all the same"


@dataclass(frozen=True)
class Listing:
    """The newest entry comes first. `now` is Unix seconds; `num_entries` counts without the
    filter.
    """

    entries: tuple[Entry, ...] = ()
    num_entries: int = 0
    now: float = 0.0


class ChangeList(VirtualList[Listing, Entry], Paced[Listing]):
    """The newest change comes first."""

    def rows(self, shown: Listing) -> tuple[Entry, ...]:
        return shown.entries

    def key(self, entry: Entry) -> int:
        return entry.number

    @property
    def number(self) -> int:
        """Returns the number of the entry at the cursor."""
        entry = self.at_cursor
        return NEWEST if entry is None else entry.number

    def heading(self, shown: Listing, width: int) -> Line:
        if not shown.entries:
            return [("nothing fits the filter" if shown.num_entries else NOTHING, "muted")]
        return beside(
            [(_cells(width, "when", "age", "round", "", "change"), "muted")],
            [("by", "muted")],
            width,
        )

    def line_of(self, shown: Listing, entry: Entry, width: int) -> Line:
        cells = _cells(
            width,
            date_time(entry.t),
            age(entry.t, shown.now),
            str(entry.from_round),
            FATES[entry.fate],
            entry.what[:MOST_SHOWN],
        )
        by = entry.by[:MOST_SHOWN] or ("fork" if entry.verb == "fork" else "")
        by = shown_text(visible(by), is_ascii=self.is_ascii)
        return beside([(cells, STYLES[entry.fate])], [(by, "muted")], width)


def _cells(width: int, when: str, age: str, round: str, fate: str, what: str) -> str:
    date = f"{when:16} " if width >= WITH_DATE else ""
    room = max(map(len, FATES.values())) if width >= WITH_WORDS else NUM_LETTERS
    return f"{date}{age:>5} {round:>5} {fate[:room]:{room}} {what}"

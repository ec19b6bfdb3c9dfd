"""This widget lists what a new run can begin with, filtered by typing.

It stands beside the screen's own work on forms, drafts and plans, and draws alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from halos_tui.new_run.starts import Offer
from halos_tui.widgets.panel import Line, key_of
from halos_tui.widgets.virtual_list import VirtualList

FILE = "run file"


class OfferList(VirtualList[tuple[Offer | None, ...], Offer | None]):
    """None among the offers is a run file, whose path has yet to be asked for."""

    HAS_HEADING = False
    DEFAULT_CSS = """
    OfferList { height: 1fr; }
    """

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._filter = ""
        self._name_width = 0

    def rows(self, shown: tuple[Offer | None, ...]) -> list[Offer | None]:
        """Returns the offers that fit the filter."""
        words = self._filter.casefold().split()
        found = [
            offer
            for offer in shown
            if all(word in " ".join(_texts(offer)).casefold() for word in words)
        ]
        self._name_width = max((len(_texts(offer)[0]) for offer in found), default=0)
        return found

    def key(self, offer: Offer | None) -> tuple[str, str]:
        return _texts(offer)

    def show_offers(self, offers: Sequence[Offer]) -> None:
        """Shows offers; a run file comes first: only the person knows of it."""
        self.show((None, *offers))

    def search(self, text: str) -> None:
        """Shows only what fits."""
        self._filter = text
        self.list_anew()

    def if_empty(self, shown: tuple[Offer | None, ...]) -> list[Line]:
        del shown
        return [[(f"nothing fits the search; {key_of(self, 'back')} takes it away", "muted")]]

    def line_of(
        self, shown: tuple[Offer | None, ...], offer: Offer | None, width: int
    ) -> list[tuple[str, str]]:
        del shown, width
        name, about = _texts(offer)
        return [(f" {name:{self._name_width}} ", ""), (about, "muted")]

    def line_at_cursor(
        self, shown: tuple[Offer | None, ...], offer: Offer | None, width: int
    ) -> Line:
        (name, _), about = self.line_of(shown, offer, width)
        return [(name, "cursor"), about]


def _texts(offer: Offer | None) -> tuple[str, str]:
    """Returns the name of an offer, and what it is."""
    if offer is None:
        return FILE, "one of your own; its path is asked for"
    return offer.label, offer.about

"""This widget lists what a new run can begin with, to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message

from halos_tui.new_run.starts import Offer
from halos_tui.widgets.panel import Line, Panel

FILE = "run file"
SCROLL = 3


class OfferList(Panel[tuple[Offer | None, ...]]):
    """None among the offers is a run file, whose path has yet to be asked for."""

    can_focus = True
    DEFAULT_CSS = """
    OfferList { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Before", show=False),
        Binding("down,j", "move(1)", "After", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-9999)", "First", show=False),
        Binding("end", "move(9999)", "Last", show=False),
    ]

    class Chosen(Message):
        """This message says what to begin with."""

        def __init__(self, offer: Offer | None) -> None:
            super().__init__()
            self.offer = offer

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._filter = ""
        self._place = 0
        self._top = 0

    @property
    def found(self) -> list[Offer | None]:
        """Returns the offers that fit the filter."""
        words = self._filter.casefold().split()
        return [
            offer
            for offer in self.shown or ()
            if all(word in " ".join(_texts(offer)).casefold() for word in words)
        ]

    def show_offers(self, offers: Sequence[Offer]) -> None:
        """Shows offers; a run file comes first: only the person knows of it."""
        self.show((None, *offers))

    def search(self, text: str) -> None:
        """Shows only what fits."""
        self._filter = text
        self._place = 0
        self.repaint()

    def choose(self) -> None:
        """Takes what is at the cursor."""
        found = self.found
        if found:
            self.post_message(self.Chosen(found[min(self._place, len(found) - 1)]))

    def lines(self, shown: tuple[Offer | None, ...], width: int, height: int) -> Iterator[Line]:
        del shown, width
        found = self.found
        if not found:
            yield [("nothing fits the search; escape takes it away", "muted")]
        most = max(0, len(found) - height)
        self._top = min(most, max(min(self._top, self._place), self._place - height + 1))
        names = max((len(_texts(offer)[0]) for offer in found), default=0)
        for place in range(self._top, min(len(found), self._top + height)):
            name, about = _texts(found[place])
            style = "cursor" if place == self._place else ""
            yield [(f" {name:{names}} ", style), (about, "muted")]

    def action_move(self, by: int) -> None:
        self._place = max(0, min(len(self.found) - 1, self._place + by))
        self.repaint()

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.size.height - 1))

    def on_click(self, event: Click) -> None:
        place = self._top + event.y
        if place < len(self.found):
            self._place = place
            self.repaint()
            if event.chain > 1:
                self.choose()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-SCROLL)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(SCROLL)


def _texts(offer: Offer | None) -> tuple[str, str]:
    """Returns the name of an offer, and what it is."""
    if offer is None:
        return FILE, "one of your own; its path is asked for"
    return offer.label, offer.about

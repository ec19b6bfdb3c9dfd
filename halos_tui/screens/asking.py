"""A screen that shows what a person wishes for, while its answers come from a thread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from halos_tui.feed import Feed
from halos_tui.screens.base import HalosScreen


class Asking(HalosScreen):
    """`_wish` is a frozen dataclass; `_reader` is asked for it, and its views come by `_feed`.

    A view says by its `wish` what it answers. It may answer an older wish than the newest, so that
    it is drawn and no more: a wish is made of the wish before it and what the person did, never of
    what a view shows where the wish says it.
    """

    _wish: Any
    _reader: Any

    def __init__(self) -> None:
        super().__init__()
        self._feed: Feed[Any] | None = None

    def wish_for(self, **changes: Any) -> None:
        """The feed reads on at once, also where it reads for an older wish just now."""
        self._wish = replace(self._wish, **changes)
        self._reader.ask(self._wish)
        if self._feed is not None:
            self._feed.hurry()

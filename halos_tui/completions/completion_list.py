"""This widget lists completions: reward, length, mark, and how each begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from halos_tui.completions.page import MARK_STYLES
from halos_tui.completions.round_index import CompletionRow
from halos_tui.completions.round_rows import Mark
from halos_tui.completions.view import ALL_ROUNDS, ListView, Preview
from halos_tui.formatting import number
from halos_tui.widgets.panel import Line
from halos_tui.widgets.virtual_list import VirtualList

WITH_PROMPT = 70
"""From this width on there is room for the prompt's name, and for the mark as a word."""
MARK_WIDTH = len("undesirable")
PROMPT_WIDTH = 16


@dataclass(frozen=True)
class Listing:
    """Says what to list; `row_of` looks only in memory."""

    view: ListView = field(default_factory=ListView)
    previews: Mapping[int, Preview] = field(default_factory=dict)
    row_of: Callable[[int], CompletionRow | None] = lambda _: None


class CompletionList(VirtualList[Listing]):
    """The cursor stays on its completion when the list changes around it."""

    @property
    def num_rows(self) -> int:
        return len(self.shown.view.keys) if self.shown else 0

    @property
    def key(self) -> int | None:
        """Returns the key of the completion at the cursor."""
        if self.shown is None or not 0 <= self.cursor < self.num_rows:
            return None
        return self.shown.view.keys[self.cursor]

    def keys_in_sight(self) -> tuple[int, ...]:
        if self.shown is None:
            return ()
        places = self.places()
        return tuple(self.shown.view.keys[places.start : places.stop])

    def take(self, view: ListView) -> None:
        """Shows another list."""
        before = self.key
        keys = view.keys
        place = self.cursor
        is_same_place = 0 <= place < len(keys) and keys[place] == before
        if before is not None and not is_same_place and before in keys:
            self.cursor = keys.index(before)
        previews = self.shown.previews if self.shown else {}
        if self.shown is not None and view.generation != self.shown.view.generation:
            previews = {}
        self.show(Listing(view, previews, self.shown.row_of if self.shown else lambda _: None))

    def look_rows_up(self, row_of: Callable[[int], CompletionRow | None]) -> None:
        """Sets where the numbers of a row come from."""
        self.shown = Listing(row_of=row_of)

    def fill(self, previews: Mapping[int, Preview]) -> None:
        """Takes the texts of rows in sight; those that are out of sight are forgotten."""
        if self.shown is not None:
            self.show(Listing(self.shown.view, previews, self.shown.row_of))

    def heading(self, shown: Listing, width: int) -> Line:
        title = "mark" if width >= WITH_PROMPT else "+-"
        titles = self._cells(shown, width, "round", "reward", "tokens", "end", title, "prompt")
        return [(titles, "muted"), ("completion", "muted")]

    def row(self, shown: Listing, place: int, width: int) -> Line:
        key = shown.view.keys[place]
        row = shown.row_of(key)
        if row is None:
            return [("", "")]
        preview = shown.previews.get(key)
        mark = preview.mark if preview else None
        cells = self._cells(
            shown,
            width,
            str(row.round),
            "unscored" if row.unscored is not None else number(row.reward, 3),
            str(row.num_tokens),
            "cut" if row.finish_reason == "length" else "stop",
            _mark(mark, width),
            row.prompt_id[:PROMPT_WIDTH],
        )
        style = MARK_STYLES[mark] if mark else "warning" if row.unscored is not None else ""
        return [(cells, style), (preview.text if preview else "", "")]

    def _cells(
        self,
        shown: Listing,
        width: int,
        round: str,
        reward: str,
        tokens: str,
        end: str,
        mark: str,
        prompt: str,
    ) -> str:
        first = f"{round:>5} " if shown.view.round == ALL_ROUNDS else ""
        last = f"{prompt:{PROMPT_WIDTH}} " if width >= WITH_PROMPT else ""
        room = MARK_WIDTH if width >= WITH_PROMPT else 2
        return f"{first}{reward:>8} {tokens:>6} {end:4} {mark:{room}} {last}"


def _mark(mark: Mark | None, width: int) -> str:
    """Returns the mark as a word where there is room for it, else as an arrow."""
    if mark is None or width >= WITH_PROMPT:
        return mark or ""
    return "+" if mark in ("chosen", "desirable") else "-"

"""This widget lists completions: reward, length, mark, and how each begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from halos_backend.store.own_words import OwnMark

from halos_tui.completions.page import MARK_STYLES
from halos_tui.completions.round_index import CompletionRow
from halos_tui.completions.round_rows import Mark
from halos_tui.completions.view import ALL_ROUNDS, ListView, Preview
from halos_tui.formatting import ABSENT, FigureLook, look_of
from halos_tui.widgets.panel import Line, Paced
from halos_tui.widgets.virtual_list import VirtualList

WITH_PROMPT = 70
"""From this width on there is room for the prompt's name, and for the mark as a word."""
MARK_WIDTH = len("undesirable")
PROMPT_WIDTH = 16
NOTE_WIDTH = 20
MOST_PLACES = 4
"""A reward has at most so many places after its point."""


@dataclass(frozen=True)
class Listing:
    """Says what to list; `row_of` looks only in memory."""

    view: ListView = field(default_factory=ListView)
    previews: Mapping[int, Preview] = field(default_factory=dict)
    row_of: Callable[[int], CompletionRow | None] = lambda _: None


class CompletionList(VirtualList[Listing, int], Paced[Listing]):
    """It knows keys alone; a row's numbers are looked up once it is in sight."""

    IS_VERBATIM = True
    _is_new = _is_reordered = False
    _places = 0

    def rows(self, shown: Listing) -> Sequence[int]:
        return shown.view.keys

    def lines(self, shown: Listing, width: int, height: int) -> Iterator[Line]:
        """Returns the lines; rewards have as many places as the most exact one seen needs."""
        self._places = max(self._places, self._places_in_sight(shown))
        yield from super().lines(shown, width, height)

    def _places_in_sight(self, shown: Listing) -> int:
        rows = [shown.row_of(key) for key in self.keys_in_sight()]
        look = look_of([row.reward for row in rows if row is not None], most=MOST_PLACES)
        return look.places or 0

    def _reward(self, row: CompletionRow) -> str:
        if row.unscored is not None or row.reward is None:
            return "unscored" if row.unscored is not None else ABSENT
        return FigureLook(self._places).write(row.reward)

    def keys_in_sight(self) -> tuple[int, ...]:
        places = self.places()
        return tuple(self.listed[places.start : places.stop])

    def take(self, view: ListView) -> None:
        """Shows another list, from the top where its order is another one, or where the row at the
        cursor is not in it. That holds until all of it is found, or a person moves.
        """
        before = self.shown or Listing()
        was, query = before.view.query, view.query
        self._is_new |= was != query
        self._is_reordered |= (was.order, was.ascending) != (query.order, query.ascending)
        if self._is_reordered:
            self.start_anew()
        elif self._is_new:
            self.cursor = 0
        if before.view.round != view.round:
            self._places = 0
        if view.num_searched == view.num_groups:
            self._is_new = self._is_reordered = False
        previews = before.previews if view.generation == before.view.generation else {}
        self.show(Listing(view, previews, before.row_of))

    def on_resize(self) -> None:
        """Tells that other rows are in sight."""
        self.post_message(self.Moved())

    def look_rows_up(self, row_of: Callable[[int], CompletionRow | None]) -> None:
        """Sets where the numbers of a row come from."""
        self.shown = Listing(row_of=row_of)

    def fill(self, previews: Mapping[int, Preview]) -> None:
        """Takes the texts of rows in sight; those that are out of sight are forgotten."""
        if self.shown is not None:
            self.show(Listing(self.shown.view, previews, self.shown.row_of))

    def heading(self, shown: Listing, width: int) -> Line:
        if not shown.view.keys:
            return [("nothing is listed", "muted")]
        title = "mark" if width >= WITH_PROMPT else "+-"
        titles = self._cells(shown, width, "round", "reward", "tokens", "end", title, "prompt")
        return [(titles, "muted"), ("completion", "muted")]

    def line_of(self, shown: Listing, key: int, width: int) -> Line:
        row = shown.row_of(key)
        if row is None:
            return [("", "")]
        preview = shown.previews.get(key)
        mark = preview.mark if preview else None
        cells = self._cells(
            shown,
            width,
            str(row.round),
            self._reward(row),
            str(row.num_tokens),
            "cut" if row.finish_reason == "length" else "stop",
            _mark(mark, width),
            row.prompt_id[:PROMPT_WIDTH],
        )
        style = MARK_STYLES[mark] if mark else "warning" if row.unscored is not None else ""
        times = f"{row.times}x " if row.times > 1 else ""
        own = _own(preview.own if preview else None)
        return [
            (cells, style),
            (own, "accent"),
            (times, "accent"),
            (preview.text if preview else "", ""),
        ]

    def _move(self, place: int, top: int) -> None:
        self._is_new = self._is_reordered = False
        super()._move(place, top)

    def _place_of(self, key: object) -> int | None:
        """Looks in the array itself, which is three times as fast with a million rows."""
        try:
            return self.listed.index(key)
        except ValueError:
            return None

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


def _own(own: OwnMark | None) -> str:
    """Returns a person's own mark, and how a note begins."""
    if own is None:
        return ""
    note = own.note if len(own.note) <= NOTE_WIDTH else f"{own.note[: NOTE_WIDTH - 2]}.."
    return "* " * own.is_marked + (f"({note}) " if note else "")


def _mark(mark: Mark | None, width: int) -> str:
    """Returns the mark as a word where there is room for it, else as an arrow."""
    if mark is None or width >= WITH_PROMPT:
        return mark or ""
    return "+" if mark in ("chosen", "desirable") else "-"

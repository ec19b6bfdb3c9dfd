"""This pane shows the run at the list's cursor, or compares selected ones.

It is beside the list, below it, or only there when asked for.

It says when which run is to be read; `PreviewReader` reads it, and `preview_parts` draws it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from halos_backend.store.run_dir import RunDir
from textual.containers import Container
from textual.timer import Timer

from halos_tui.feed import Feed, in_background
from halos_tui.runs.comparison import Comparison
from halos_tui.runs.preview_reader import Preview, PreviewReader
from halos_tui.runs.reader import RunRow
from halos_tui.screens.base import is_boxed
from halos_tui.widgets.painted import FRAMED

if TYPE_CHECKING:
    from halos_tui.runs.preview_parts import PreviewParts

TITLE = "preview"
Place = Literal["beside", "below"]
BESIDE_WIDTH = 140
BELOW_HEIGHT = 40
MIN_HEIGHT = 16
"""A terminal of fewer lines has no room for it."""
SHARE_OF_HEIGHT = 0.45
REST_S = 0.15
"""A cursor that rests for so long has the run at it read."""
LATE_S = 0.5
"""After so long nothing is shown of another run any more."""


def place_of_preview(size: tuple[int, int], *, wants: bool | None) -> Place | None:
    """Says where a terminal has the preview; None where it has none.

    `wants` is what a person has asked for, None where they have not.
    """
    width, height = size
    if wants is False or height < MIN_HEIGHT:
        return None
    if width >= BESIDE_WIDTH:
        return "beside"
    return "below" if wants or height >= BELOW_HEIGHT else None


class PreviewPane(Container):
    """It shows one run, or several compared; whoever holds it lays it out by `place`.

    `feed` is what reads `reader`, and `wants` what a person has asked for.
    """

    DEFAULT_CSS = """
    PreviewPane {
        display: none;
        &.-beside { display: block; width: 40%; }
        &.-below { display: block; }
    }
    """

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, classes=FRAMED)
        self.reader = PreviewReader()
        self.feed: Feed[Preview | Comparison] | None = None
        self.wants: bool | None = None
        self.place: Place | None = None
        self._is_ascii = is_ascii
        self._rows: tuple[RunRow, ...] = ()
        self._shown: Preview | Comparison | None = None
        self._parts: PreviewParts | None = None
        self._is_making_parts = False
        self._waiting: list[Timer] = []

    def lay_out(self, size: tuple[int, int]) -> None:
        """Takes the room that it has on a terminal of that size."""
        self.place = place = place_of_preview(size, wants=self.wants)
        self.border_title = TITLE if is_boxed(size) else f" {TITLE} "
        for name in ("beside", "below"):
            self.set_class(place == name, f"-{name}")
        self.styles.height = "1fr" if place == "beside" else int(size[1] * SHARE_OF_HEIGHT)
        if place is None:
            self._turn_to(())

    def turn_to(self, rows: tuple[RunRow, ...]) -> None:
        """Shows that run once the cursor rests on it, or several beside each other."""
        if self.place:
            self._turn_to(rows)

    def show(self, shown: Preview | Comparison) -> None:
        """Shows what was read, unless the cursor has moved on meanwhile."""
        if self._is_wanted(shown):
            self._show(shown)

    def _turn_to(self, rows: tuple[RunRow, ...]) -> None:
        before, self._rows = self._rows, rows
        if _runs_of(rows) == _runs_of(before):
            if rows != before:
                self.reader.ask(rows)
                self._show(self._shown)
            return
        if rows and not self._is_making_parts:
            self._is_making_parts = True  # once the list is there, which does not wait for it
            self.run_worker(self._make_parts())
        for timer in self._waiting:
            timer.stop()
        if self._shown is None or not rows:
            self._ask()
        else:
            self._waiting = [
                self.set_timer(REST_S, self._ask),
                self.set_timer(LATE_S, self._forget_other),
            ]

    def _ask(self) -> None:
        self.reader.ask(self._rows)
        if self.feed is not None:
            self.feed.hurry()

    def _is_wanted(self, shown: Preview | Comparison) -> bool:
        runs = (shown.run_dir,) if isinstance(shown, Preview) else shown.run_dirs
        return runs == _runs_of(self._rows)

    def _forget_other(self) -> None:
        if self._shown is not None and not self._is_wanted(self._shown):
            self._show(None)

    def _show(self, shown: Preview | Comparison | None) -> None:
        """Shows it, with a person's own words, which the list has read already."""
        self._shown = shown
        if isinstance(shown, Preview) and self._is_wanted(shown):
            (row,) = self._rows
            shown = replace(shown, words=row.words, words_problem=row.words_problem)
        if self._parts is not None:
            self._parts.show(shown)

    async def _make_parts(self) -> None:
        def load() -> type[PreviewParts]:
            from halos_tui.runs.preview_parts import PreviewParts

            return PreviewParts

        make = await in_background(load)
        parts = make(is_ascii=self._is_ascii)
        await self.mount(parts)
        self._parts = parts
        self._show(self._shown)


def _runs_of(rows: tuple[RunRow, ...]) -> tuple[RunDir, ...]:
    return tuple(row.run_dir for row in rows)

"""This pane shows the run at the list's cursor: beside the list, below it, or only when asked for.

It says when which run is to be read; `PreviewReader` reads it, and `preview_parts` draws it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from halos_backend.store.run_dir import RunDir
from textual.containers import Container
from textual.timer import Timer

from halos_tui.feed import Feed, in_background
from halos_tui.runs.reader import Preview, PreviewReader, RunRow
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
    """It shows one run. `feed` is what reads `reader`; `wants` is what a person has asked for.

    Whoever holds it lays it out by `place`.
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
        self.feed: Feed[Preview] | None = None
        self.wants: bool | None = None
        self.place: Place | None = None
        self._is_ascii = is_ascii
        self._row: RunRow | None = None
        self._shown: Preview | None = None
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
            self._turn_to(None)

    def turn_to(self, row: RunRow | None) -> None:
        """Shows that run, once the cursor rests on it."""
        if self.place:
            self._turn_to(row)

    def show(self, shown: Preview) -> None:
        """Shows what was read, unless the cursor has moved on meanwhile."""
        if shown.run_dir == self._run_dir:
            self._show(shown)

    @property
    def _run_dir(self) -> RunDir | None:
        return None if self._row is None else self._row.run_dir

    def _turn_to(self, row: RunRow | None) -> None:
        before, self._row = self._row, row
        if row is None and before is None:
            return
        if row is not None and before is not None and row.run_dir == before.run_dir:
            self._show(self._shown)
            return
        if row is not None and not self._is_making_parts:
            self._is_making_parts = True  # once the list is there, which does not wait for it
            self.run_worker(self._make_parts())
        for timer in self._waiting:
            timer.stop()
        if self._shown is None or row is None:
            self._ask()
        else:
            self._waiting = [
                self.set_timer(REST_S, self._ask),
                self.set_timer(LATE_S, self._forget_other),
            ]

    def _ask(self) -> None:
        self.reader.ask(self._run_dir)
        if self.feed is not None:
            self.feed.hurry()

    def _forget_other(self) -> None:
        if self._shown is not None and self._shown.run_dir != self._run_dir:
            self._show(None)

    def _show(self, shown: Preview | None) -> None:
        self._shown = shown
        if self._parts is not None:
            self._parts.show(self._with_words(shown))

    def _with_words(self, shown: Preview | None) -> Preview | None:
        """Adds a person's own words, which the list has read already."""
        row = self._row
        if shown is None or row is None or row.run_dir != shown.run_dir:
            return shown
        return replace(shown, words=row.words, words_problem=row.words_problem)

    async def _make_parts(self) -> None:
        def load() -> type[PreviewParts]:
            from halos_tui.runs.preview_parts import PreviewParts

            return PreviewParts

        make = await in_background(load)
        parts = make(is_ascii=self._is_ascii)
        await self.mount(parts)
        self._parts = parts
        self._show(self._shown)

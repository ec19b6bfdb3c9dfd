"""This widget is the last line: the keys that do something now, as remapped, as many as fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual.events import Click
from textual.screen import Screen

from halos_tui.actions import ACTIONS
from halos_tui.widgets.panel import Line, Panel

ALWAYS = ("help", "search", "quit")
"""These actions stay, at the right, when there is no room for all."""
NOTES = {"quit": "(runs go on)"}
READ_ONLY = "read-only"
ORDER = {
    action.id: -place
    for place, action in enumerate(sorted(reversed(ACTIONS), key=lambda one: one.id not in ALWAYS))
}
"""This is the place of each action by its first row; Textual puts remapped keys last."""


class Hint(NamedTuple):
    """Has a key as it is shown, what it does, and Textual's name of it."""

    key: str
    title: str
    name: str
    is_constant: bool = False

    @property
    def width(self) -> int:
        return cell_len(self.key) + 1 + cell_len(self.title)


class Footer(Panel[tuple[Hint, ...]]):
    """It knows the keys from the screen it is on; a click on one presses it."""

    DEFAULT_CSS = """
    Footer { dock: bottom; height: 1; background: $footer-background; }
    """

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._places: list[tuple[int, int, str]] = []
        self._is_read_only = False

    def on_mount(self) -> None:
        self._is_read_only = bool(getattr(self.app, "is_read_only", False))
        self.screen.bindings_updated_signal.subscribe(self, self._update)
        self.call_after_refresh(self._update, self.screen)

    def on_unmount(self) -> None:
        self.screen.bindings_updated_signal.unsubscribe(self)

    def lines(self, shown: tuple[Hint, ...], width: int, height: int) -> Iterator[Line]:
        del height
        note = f"{READ_ONLY}  " if self._is_read_only else ""
        constant = [hint for hint in shown if hint.is_constant]
        while len(constant) > 1 and _width(constant) + len(note) > width:
            constant.pop(0)
        left = _fitting(
            [hint for hint in shown if not hint.is_constant],
            width - len(note) - _width(constant) - 2,
        )
        gap = max(0, width - len(note) - _width(left) - _width(constant))
        self._places = []
        line: list[tuple[str, str]] = [(note, "warning")] if note else []
        line += self._drawn(left, len(note))
        line.append((" " * gap, ""))
        line += self._drawn(constant, len(note) + _width(left) + gap)
        yield line

    def on_click(self, event: Click) -> None:
        for start, end, name in self._places:
            if start <= event.x < end:
                self.app.simulate_key(name)

    def _update(self, screen: Screen[object]) -> None:
        """Draws the keys anew, since they may be others now."""
        if not self.is_attached or not screen.is_current:
            return
        hints = []
        seen = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            is_first = binding.action not in seen
            if is_first and binding.show and active.enabled and binding.description:
                seen.add(binding.action)
                note = NOTES.get(binding.action, "")
                title = f"{binding.description} {note}".rstrip()
                key = self.app.get_key_display(binding)
                place = ORDER.get(binding.action, len(ORDER))
                is_constant = binding.action in ALWAYS
                hints.append((place, Hint(key, title, binding.key, is_constant)))
        self.show(tuple(hint for _, hint in sorted(hints, key=lambda placed: placed[0])))

    def _drawn(self, hints: Sequence[Hint], x: int) -> Iterator[tuple[str, str]]:
        for place, hint in enumerate(hints):
            if place:
                yield "  ", ""
                x += 2
            yield hint.key, "title"
            yield f" {hint.title}", ""
            self._places.append((x, x + hint.width, hint.name))
            x += hint.width


def _width(hints: Sequence[Hint]) -> int:
    """Returns the width with two blanks between."""
    return sum(hint.width + 2 for hint in hints) - 2 if hints else 0


def _fitting(hints: Sequence[Hint], width: int) -> list[Hint]:
    """Returns as many hints from the first on as there is room for."""
    fitting: list[Hint] = []
    for hint in hints:
        if _width([*fitting, hint]) > width:
            break
        fitting.append(hint)
    return fitting

"""This widget is the last line, or the last two: the keys that do something now, as remapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

from rich.cells import cell_len
from textual.events import Click
from textual.message import Message
from textual.screen import Screen

from halos_tui.actions import Action
from halos_tui.widgets.panel import Line, Panel

ALWAYS = ("help", "search", "quit")
"""These actions stay, at the right of the last line, when there is no room for all."""
NOTES = {"quit": "(runs go on)"}
READ_ONLY = "read-only"
MIN_HEIGHT_FOR_TWO = 24
"""A screen of so many lines has a second one for keys that do not fit on the first."""


class Hint(NamedTuple):
    """Has a key as it is shown, what it does, and Textual's name of it."""

    key: str
    title: str
    name: str
    is_constant: bool = False

    @property
    def width(self) -> int:
        return cell_len(self.key) + 1 + cell_len(self.title)


class Offers(Protocol):
    """This is a screen that names its actions in the order of use, as things stand."""

    def actions(self) -> Sequence[Action]: ...


Row = tuple[Sequence[Hint], Sequence[Hint]]
"""A line of hints, from the left and up to the right edge."""


class Footer(Panel[tuple[Hint, ...]]):
    """It knows the keys from the screen it is on; a click on one presses it."""

    DEFAULT_CSS = """
    Footer { dock: bottom; height: 1; background: $footer-background; }
    """

    class Grown(Message):
        """This message says that the footer has another number of lines."""

    def __init__(self, *, is_ascii: bool = False, id: str | None = None) -> None:
        super().__init__(is_ascii=is_ascii, id=id)
        self._places: list[tuple[int, int, int, str]] = []
        self._is_read_only = False
        self.num_lines = 1

    def on_mount(self) -> None:
        self._is_read_only = bool(getattr(self.app, "is_read_only", False))
        self.screen.bindings_updated_signal.subscribe(self, self._update)
        self.call_after_refresh(self._update, self.screen)

    def on_unmount(self) -> None:
        self.screen.bindings_updated_signal.unsubscribe(self)

    def make_room(self) -> None:
        """Takes as many lines as the keys need on a screen of this size."""
        width, height = self.screen.size
        most = 2 if height >= MIN_HEIGHT_FOR_TWO else 1
        num_lines = len(rows_of(self.shown or (), width - len(self._note), most=most))
        if num_lines != self.num_lines:
            self.num_lines = num_lines
            self.styles.height = num_lines
            self.post_message(self.Grown())

    def lines(self, shown: tuple[Hint, ...], width: int, height: int) -> Iterator[Line]:
        self._places = []
        inner = width - len(self._note)
        for y, (left, right) in enumerate(rows_of(shown, inner, most=height)):
            x = len(self._note)
            gap = max(0, inner - _width(left) - _width(right))
            line: list[tuple[str, str]] = [(self._note if y == 0 else " " * x, "warning")]
            line += self._drawn(left, x, y)
            line.append((" " * gap, ""))
            line += self._drawn(right, x + _width(left) + gap, y)
            yield line

    def on_click(self, event: Click) -> None:
        for y, start, end, name in self._places:
            if y == event.y and start <= event.x < end:
                self.app.simulate_key(name)

    @property
    def _note(self) -> str:
        return f"{READ_ONLY}  " if self._is_read_only else ""

    def _update(self, screen: Screen[object]) -> None:
        """Draws the keys anew, since they may be others now."""
        if not self.is_attached or not screen.is_current:
            return
        offered = [*cast("Offers", screen).actions()]
        found: dict[str, Hint] = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.action not in found:
                key = self.app.get_key_display(binding)
                if self.is_ascii and not key.isascii():
                    key = binding.key
                found[binding.action] = Hint(key, "", binding.key, binding.action in ALWAYS)
        hints = {
            action.id: found[action.id]._replace(
                title=f"{action.title} {NOTES.get(action.id, '')}".rstrip()
            )
            for action in offered
            if action.id in found
        }
        self.show(tuple(hints.values()))
        self.make_room()

    def _drawn(self, hints: Sequence[Hint], x: int, y: int) -> Iterator[tuple[str, str]]:
        for place, hint in enumerate(hints):
            if place:
                yield "  ", ""
                x += 2
            yield hint.key, "title"
            yield f" {hint.title}", ""
            self._places.append((y, x, x + hint.width, hint.name))
            x += hint.width


def rows_of(hints: Sequence[Hint], width: int, *, most: int) -> list[Row]:
    """Returns one line, or two where one does not hold all; what has no room is left out whole."""
    constant = [hint for hint in hints if hint.is_constant]
    others = [hint for hint in hints if not hint.is_constant]
    while len(constant) > 1 and _width(constant) > width:
        constant.pop(0)
    beside = _fitting(others, width - _width(constant) - 2)
    if len(beside) == len(others) or most < 2:
        return [(beside, constant)]
    first = _fitting(others, width)
    return [(first, []), (_fitting(others[len(first) :], width - _width(constant) - 2), constant)]


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

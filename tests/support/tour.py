"""A walk through all screens of a run, as a person would take who wants to see everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.terminal import Terminal

PAUSE_S = 0.08
PALETTE = "🔎"
FORGET = "Leave, and forget"
MOVES = ("down", "down", "pagedown", "end", "home", "right", "left", "tab", "up")


@dataclass(frozen=True)
class Visit:
    """A screen that `key` opens from the run screen, and what one does there."""

    key: str
    keys: Sequence[str] = ()


VISITS = (
    Visit("?"),
    Visit("c", ("s", "S", "g", "enter", "escape")),
    Visit("l", ("g", "G")),
    Visit("m", ("+", "-")),
    Visit("h", ("enter",)),
    Visit("t", ("enter", "escape")),
    Visit("n", ("enter", "escape")),
    Visit("ctrl+p", ("pause",)),
)


def tour(terminal: Terminal, *, run: str, first_text: str) -> list[str]:
    """From the list of runs, where `first_text` stands; gives the screens that were seen."""
    seen = [terminal.wait_for(first_text)]
    for keys in (("down", "up"), ("N", "tab"), ("escape",), ("v",)):  # in the end without a preview
        terminal.press(*keys, pause_s=PAUSE_S)
        seen.append(terminal.settle(0.3))
    terminal.press("/", *run, pause_s=PAUSE_S)
    seen.append(terminal.settle(0.3))
    terminal.press("enter", pause_s=PAUSE_S)
    terminal.press("enter", pause_s=PAUSE_S)
    terminal.wait_for("reward before training")
    seen += walk(terminal, ("v", "down", "up", "end", "home", "ctrl+t"))
    for visit in VISITS:
        terminal.press(visit.key)
        seen += walk(terminal, (*MOVES, *visit.keys))
        come_back(terminal)
    return seen


def walk(terminal: Terminal, keys: Sequence[str]) -> list[str]:
    seen = [terminal.settle(0.3)]
    for key in keys:
        terminal.press(key, pause_s=PAUSE_S)
        seen.append(terminal.text)
    return seen


def come_back(terminal: Terminal) -> None:
    """To the run screen: escape closes one thing at a time, and the list of runs is behind it."""
    for _ in range(6):
        screen = terminal.text
        if "reward before training" in screen and PALETTE not in screen:
            return
        terminal.press("y" if FORGET in screen else "escape")
        terminal.settle(0.3)
    raise AssertionError(f"no way back to the run:\n{terminal.text}")

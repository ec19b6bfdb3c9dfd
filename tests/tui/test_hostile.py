"""No text of a model or a log reaches the terminal as anything but text."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from halos_backend.events import RequestRejected, SettingsChanged

from tests.support.hostile_texts import FORBIDDEN, HOSTILE, SHOWN, hostile_run
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.terminal import Terminal

POINTER = re.compile(rb"\x1b\]22;[a-z-]*\x07")
PROGRAM = Path(sys.executable).with_name("halos-tui")


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return hostile_run(tmp_path)


@pytest.fixture(
    params=[(80, 24), pytest.param((200, 60), marks=pytest.mark.slow)],
    ids=str,
)
def terminal(run: MadeRun, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    columns, lines = request.param
    command = [str(PROGRAM), "attach", "a-run", "--runs-dir", str(run.dir.path.parent)]
    with Terminal(command, environment=dict(os.environ), columns=columns, lines=lines) as opened:
        opened.wait_for("a-run", "round 2")
        yield opened


def found_in(raw: bytes) -> list[bytes]:
    """But for what the app says itself: the shape of the mouse pointer."""
    raw = POINTER.sub(b"", raw)
    return [sequence for sequence in FORBIDDEN if sequence in raw]


def test_completions_in_every_view(terminal: Terminal) -> None:
    terminal.press("c")
    terminal.wait_for("1 of 3", "policy 0")
    for keys in ("down", "down", "g", "J", "J", "J", "K", "d", "J", "d", "enter", "end", "home"):
        terminal.press(keys)
        terminal.settle(0.3)
    terminal.press("r", "e", pause_s=0.3)
    assert "note" in terminal.settle(0.3)
    terminal.press("escape", "escape", "/", pause_s=0.2)
    terminal.press("/", "m", "a", "r", "k", "enter", pause_s=0.05)
    terminal.settle(0.3)
    terminal.press("escape", "w", "enter", pause_s=0.2)
    screen = terminal.settle(0.3)
    assert "give the path" in screen
    assert found_in(terminal.raw) == []
    assert all(text.encode() in terminal.raw for text in SHOWN)


def test_logs_cut_and_wrapped(terminal: Terminal) -> None:
    terminal.press("l")
    terminal.wait_for("sample of round 2")
    for keys in ("g", "right", "right", "left", "w", "pagedown", "pageup", "v", "down"):
        terminal.press(keys)
        terminal.settle(0.3)
    terminal.press("/", pause_s=0.2)
    terminal.press("p", "i", "n", "k", "enter", pause_s=0.05)
    terminal.settle(0.3)
    terminal.press("n", "o")
    terminal.settle(0.3)
    terminal.press("escape", "[")
    terminal.settle(0.3)
    assert found_in(terminal.raw) == []
    assert all(text.encode() in terminal.raw for text in SHOWN)


def test_changes_of_settings_and_why_they_were_refused(terminal: Terminal, run: MadeRun) -> None:
    run.say(
        SettingsChanged(
            t=STARTED_T,
            request_id="a",
            from_round=2,
            changes={"label.judge.function": ("a.py:b", HOSTILE), f"x{HOSTILE}": (1, [HOSTILE])},
            consequences=[HOSTILE],
            by=HOSTILE,
        ),
        RequestRejected(t=STARTED_T, request_id="b", reason=HOSTILE),
    )
    terminal.press("h")
    terminal.wait_for("1 of 3 changes", "refused")
    for keys in ("down", "down", "J", "K", "enter", "end", "escape", "]", "{"):
        terminal.press(keys)
        terminal.settle(0.3)
    assert found_in(terminal.raw) == []
    assert all(text.encode() in terminal.raw for text in SHOWN)


def test_only_copying_writes_to_the_clipboard(terminal: Terminal) -> None:
    terminal.press("c")
    terminal.wait_for("1 of 3", "policy 0")
    terminal.press("y")
    terminal.wait_for("copied")
    # base64 of the text's beginning, ESC ] 5 2
    written = terminal.raw
    assert written.count(b"\x1b]52;c;") == 1
    assert b"\x1b]52;c;G101" in written

"""Keys by chance, on all screens of an app that watches runs at work."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from halos_backend.errors import ExitCode
from halos_backend.events import RunEvent
from halos_backend.store import requests
from halos_backend.store.reader import run_journal
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import AT_WORK, fold
from textual import events
from textual.keys import key_to_character

from halos_tui.actions import ACTIONS
from halos_tui.app import AppOptions, HalosApp
from halos_tui.control import requests as control
from halos_tui.screens.dialogs import Dialog
from tests.support.answering import wait_for_guardians
from tests.support.demo_run import DemoRun

NUM_KEYS = int(os.environ.get("KEYS", "2500"))
SEED = int(os.environ.get("SEED", "14"))
MOST_AT_ONCE = 8
FROZEN_S = 10.0
SIZES = ((80, 24), (120, 40), (200, 60))
NUM_SESSIONS = 6
ENDING = ("q", "ctrl+q", "ctrl+c")
MOVES = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab")
EDITS = ("enter", "enter", "escape", "escape", "escape", "space", "backspace", "delete", "ctrl+u")
STEERING = ("p", "p", "a", "e", "r", "t", "ctrl+s", "y", "s", "r", "o", "down", "enter")
TYPED = (*"abcdefghijklmnoprstuvwxyzABFGKNOPST0123456789.-_/:<>=*?[]{}~%\\'\"", "é", "語", "🙂")
WEIGHTS = (30, 25, 15, 20, 10, 0.2)
ASKS: dict[str, str] = {
    "Pause": r"^Pause | pauses ",
    "Abort": r"^Abort ",
    "Extend": r"^How many more rounds",
    "Set": r"^Change ",
}
"""What a run is asked for, and the heading of the dialog that a person has agreed to before. A run
that is at rest goes on without one.
"""


@dataclass
class Agreed:
    """Keeps which dialogs were answered, and what was asked for without one."""

    headings: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)

    def answered(self, dialog: Dialog[Any], result: object) -> None:
        if result is not None:
            self.headings.append(getattr(dialog, "_heading", ""))

    def ask(self, request: requests.Request) -> None:
        """An answer is good for one request."""
        kind = type(request).__name__
        self.asked.append(kind)
        if kind not in ASKS:
            return
        found = [heading for heading in self.headings if re.search(ASKS[kind], heading)]
        if found:
            self.headings.remove(found[0])
        else:
            self.unasked.append(kind)


@pytest.fixture
def agreed(monkeypatch: pytest.MonkeyPatch) -> Agreed:
    kept = Agreed()
    dismiss, ask = Dialog.dismiss, control.ask

    def noted_dismiss(dialog: Dialog[Any], result: object = None) -> Any:
        kept.answered(dialog, result)
        return dismiss(dialog, result)

    def noted_ask(run_dir: RunDir, request: requests.Request) -> RunEvent:
        kept.ask(request)
        return ask(run_dir, request)

    monkeypatch.setattr(Dialog, "dismiss", noted_dismiss)
    monkeypatch.setattr(control, "ask", noted_ask)
    return kept


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoRun]:
    """What the app starts belongs to the run's environment, and ends with it."""
    run = DemoRun(tmp_path, has_models=False)
    for name, value in run.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run.begin()
    yield run
    run.close()


def keys_by_chance(numbers: random.Random) -> list[str]:
    """Returns a burst of keys: those of actions, those that move and edit, and text."""
    of_actions = [key for action in ACTIONS for key in action.keys.split(",")]
    of_actions = [key for key in of_actions if key not in ENDING]
    drawn: list[str] = []
    for _ in range(numbers.randint(1, MOST_AT_ONCE)):
        of = numbers.choices([of_actions, STEERING, MOVES, EDITS, TYPED, ENDING], WEIGHTS)[0]
        drawn.append(numbers.choice(of))
    return drawn


async def press(app: HalosApp, keys: list[str]) -> None:
    """Keys that come in one read."""
    for key in keys:
        character = key if len(key) == 1 else key_to_character(key)
        app.post_message(events.Key(key, character))
    await asyncio.sleep(0)


async def longest_gap(is_over: asyncio.Event) -> float:
    """Returns for how long at most nothing else could be done than one call."""
    longest, last = 0.0, time.monotonic()
    while not is_over.is_set():
        await asyncio.sleep(0.01)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


async def session(root: Path, numbers: random.Random, size: tuple[int, int], num: int) -> int:
    """Presses keys in one app until it was left or had so many; returns how many it had."""
    app = HalosApp(AppOptions(root))
    pressed, is_over = 0, asyncio.Event()
    gap = asyncio.create_task(longest_gap(is_over))
    async with app.run_test(size=size) as pilot:
        while pressed < num and app._exit is False:
            keys = keys_by_chance(numbers)
            await press(app, keys)
            pressed += len(keys)
            await pilot.pause(0.005)
            assert app._exception is None
    is_over.set()
    assert app.return_code in (None, ExitCode.COMPLETED, ExitCode.UNFINISHED)
    assert await gap < FROZEN_S
    return pressed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_keys_by_chance_change_no_run_before_a_dialog(live: DemoRun, agreed: Agreed) -> None:
    numbers, left, number = random.Random(SEED), NUM_KEYS, 0
    while left > 0:
        most = min(left, NUM_KEYS // NUM_SESSIONS + 1)
        left -= asyncio.run(session(live.runs, numbers, SIZES[number % len(SIZES)], most))
        number += 1
        if load_state(RunDir(live.path)).status not in AT_WORK:
            live.name = f"sorting-{number}"
            live.begin()
    live.close()
    wait_for_guardians()
    assert agreed.asked, "no key came as far as a request"
    assert agreed.unasked == []
    for path in live.runs.iterdir():
        if (path / "events.jsonl").exists():
            run_dir = RunDir(path)
            assert load_state(run_dir) == fold(run_journal(run_dir.events).read())
    assert "traceback" not in "".join(
        log.read_text().lower() for log in live.runs.glob("*/supervisor.log")
    )

"""The logs screen: which log it shows, where in it one is, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from tests.headless.made_run import MadeRun
from tests.tui.app_fixtures import drive, opened, screen_text, until, until_shown


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


def logs_of(run: MadeRun, **about: Any) -> Callable[[], Screen[Any]]:
    from halos_tui.screens.logs import LogsScreen

    return lambda: LogsScreen(run.dir, **about)


def test_it_shows(run: MadeRun) -> None:
    run.whole_round(1)
    run.dir.attempt(1, "train", 1).log.write_bytes(b"".join(b"line %d of it\n" % n for n in range(5000)))

    async def look() -> None:
        async with opened(logs_of(run), root=run.dir.path.parent) as (app, pilot):
            print(await until_shown(pilot, "train of round 1", "line 4999"))
            for key in ("up", "pageup", "g", "pagedown", "G", "o"):
                await pilot.press(key)
                await pilot.pause(0.6)
                print(key); print(screen_text(app))
            await pilot.press("escape", "slash", *"LINE 33", "backspace", *"33", "enter")
            await pilot.pause(0.6)
            print(screen_text(app))
    drive(look())

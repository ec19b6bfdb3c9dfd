"""The completions screen: what it lists, what its page shows, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from tests.headless.made_run import MadeRun, write_round_files
from tests.tui.app_fixtures import drive, opened, screen_text, until, until_shown


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


def labelled(run: MadeRun, *rounds: int, feedback: str = "pairwise") -> None:
    for round in rounds:
        run.whole_round(round)
        write_round_files(run, round, feedback)


def completions_of(run: MadeRun, round: int | None = None) -> Callable[[], Screen[Any]]:
    from halos_tui.screens.completions import CompletionsScreen

    return lambda: CompletionsScreen(run.dir, round=round)


def test_it_lists(run: MadeRun) -> None:
    labelled(run, 1, 2)

    async def look() -> None:
        async with opened(completions_of(run), root=run.dir.path.parent) as (app, pilot):
            print(await until_shown(pilot, "round 2 of 2", "1 of 4", "Be brief."))
            for key in ("g", "d", "a", "s", "down", "down", "down"):
                await pilot.press(key)
                await pilot.pause(0.6)
                print(key); print(screen_text(app))
    drive(look())

"""The whole app with a person's own configuration, without a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from halos_backend.store.run_dir import RunDir
from textual.pilot import Pilot

from halos_tui.app import AppOptions, HalosApp
from halos_tui.runs.run_list import RunList
from halos_tui.runs.screen import RunsScreen
from tests.support.app_fixtures import until_shown


@contextlib.asynccontextmanager
async def shell(
    root: Path, *, size: tuple[int, int] = (80, 24), run: RunDir | None = None, **options: Any
) -> AsyncIterator[tuple[HalosApp, Pilot[int]]]:
    """As the command line opens it."""
    app = HalosApp(AppOptions(root, **options), run=run)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def listed(pilot: Pilot[int], *names: str) -> RunList:
    """The list of runs, once these are in it."""
    await until_shown(pilot, *names)
    screen = pilot.app.screen
    assert isinstance(screen, RunsScreen)
    return screen.query_one(RunList)


def shown_names(runs: RunList) -> list[str]:
    return [row.name for row in runs.shown.rows] if runs.shown else []


def at_cursor(runs: RunList) -> str | None:
    return runs.at_cursor.name if runs.at_cursor else None

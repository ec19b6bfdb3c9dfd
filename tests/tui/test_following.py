"""How files reach a screen: no faster than it draws."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import ClassVar

from halos_tui.actions import ScreenName
from halos_tui.feed import Updated
from halos_tui.screens.base import HalosScreen
from tests.support.app_fixtures import opened

BLOCKED_S = 0.6


class SlowScreen(HalosScreen):
    """Counts what is read; drawing the first view takes long."""

    NAME: ClassVar[ScreenName] = "help"

    def __init__(self) -> None:
        super().__init__()
        self.num_read = 0
        self.drawn: list[int] = []
        self.read_while_drawing = 0

    def on_mount(self) -> None:
        self.follow(self._read, interval_s=0.01)

    def _read(self) -> int:
        self.num_read += 1
        return self.num_read

    def on_updated(self, message: Updated[int]) -> None:
        if not self.drawn:
            before = self.num_read
            time.sleep(BLOCKED_S)
            self.read_while_drawing = self.num_read - before
        self.drawn.append(message.view)


def test_nothing_is_read_while_the_screen_cannot_draw(tmp_path: Path) -> None:
    async def run() -> SlowScreen:
        screen = SlowScreen()
        async with opened(lambda: screen, root=tmp_path) as (_, pilot):
            while len(screen.drawn) < 5:
                await pilot.pause(0.02)
        return screen

    screen = asyncio.run(run())
    assert screen.read_while_drawing == 0
    assert screen.drawn == list(range(1, len(screen.drawn) + 1)), "every view, in order"

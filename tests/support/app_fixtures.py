"""The app on one screen, without a terminal: what it shows as text, and waiting for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from halos_backend.store.run_dir import RunDir
from textual.events import Mount
from textual.pilot import Pilot
from textual.screen import Screen

from halos_tui.app import AppOptions, HalosApp

DEADLINE_S = 20.0


class OneScreenApp(HalosApp):
    """Opens one screen at once; `opened` are the names of the screens that were asked for."""

    first: Any
    """The screen it opens on, which may stand behind another by now."""

    def __init__(self, options: AppOptions, first: Callable[[], Screen[Any]]) -> None:
        super().__init__(options)
        self._make_first = first
        self.opened: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def on_mount(self, event: Mount) -> None:
        event.prevent_default()
        self.first = self._make_first()
        self.push_screen(self.first)

    def open_completions(self, *about: Any, **more: Any) -> None:
        self.opened.append(("completions", about, more))

    def open_logs(self, *about: Any, **more: Any) -> None:
        self.opened.append(("logs", about, more))

    def open_changes(self, *about: Any, **more: Any) -> None:
        self.opened.append(("changes", about, more))

    def open_metrics(self, *about: Any, **more: Any) -> None:
        self.opened.append(("metrics", about, more))

    def open_tweak(self, *about: Any, **more: Any) -> None:
        self.opened.append(("tweak", about, more))

    def open_new_run(self, *about: Any, **more: Any) -> None:
        self.opened.append(("new_run", about, more))


@contextlib.asynccontextmanager
async def opened(
    first: Callable[[], Screen[Any]],
    *,
    root: Path,
    size: tuple[int, int] = (80, 24),
    **options: Any,
) -> AsyncIterator[tuple[OneScreenApp, Pilot[int]]]:
    """The app with that screen, in a terminal of so many columns and lines."""
    app = OneScreenApp(AppOptions(root, **options), first)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


def screen_text(app: HalosApp) -> str:
    """What stands on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def until(pilot: Pilot[int], is_so: Callable[[], object], *, what: str = "") -> None:
    """Wait for a condition; what is on the screen instead is in the error."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_S} s: {what}\n{screen_text(pilot.app)}")
        await pilot.pause(0.02)


def is_shown(app: HalosApp, text: str) -> bool:
    """As it is, or broken over lines: where they break is up to the length of a path in it."""
    shown = screen_text(app)
    lines = [line.strip(" │") for line in shown.splitlines()]
    return text in shown or text in " ".join(" ".join(lines).split())


async def until_shown(pilot: Pilot[int], *texts: str) -> str:
    """Wait until all texts stand on the screen; gives all of it."""
    await until(
        pilot,
        lambda: all(is_shown(pilot.app, text) for text in texts),
        what=f"to see {texts}",
    )
    return screen_text(pilot.app)


async def until_told(pilot: Pilot[int], *texts: str) -> None:
    """Wait until all texts are in notices."""
    await until(
        pilot,
        lambda: all(
            any(text in notice.message for notice in pilot.app._notifications) for text in texts
        ),
        what=f"to be told {texts}",
    )


def drive(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def run_screen(run_dir: RunDir) -> Callable[[], Screen[Any]]:
    from halos_tui.run.screen import RunScreen

    return lambda: RunScreen(run_dir)

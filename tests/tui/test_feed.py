"""Work in threads of its own, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
import threading

from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widgets import Label, Static
from textual.worker import WorkerState

from halos_tui.feed import in_background


class Lingering(Static):
    """It takes its time to go: its screen's worker is cancelled only after that."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self.go = go

    async def on_unmount(self) -> None:
        self.go.set()
        await asyncio.sleep(0.3)


class Waiting(Screen[None]):
    """Its worker looks at a widget once the work is done."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def compose(self) -> ComposeResult:
        yield Label("gone first")
        yield Lingering(self.go)

    async def work(self) -> str:
        await in_background(lambda: self.go.wait(30))
        return str(self.query_one(Label).content)


class OneApp(App[None]):
    def on_mount(self) -> None:
        self.push_screen(Waiting())


def test_a_worker_of_a_screen_that_closes_looks_at_none_of_its_widgets() -> None:
    async def leave(*, by_exit: bool) -> None:
        async with OneApp().run_test() as pilot:
            screen = pilot.app.screen
            assert isinstance(screen, Waiting)
            worker = screen.run_worker(screen.work())
            await pilot.pause()
            if not by_exit:
                await pilot.app.pop_screen()
                assert worker.state == WorkerState.CANCELLED
        assert worker.state == WorkerState.CANCELLED

    asyncio.run(leave(by_exit=False))
    asyncio.run(leave(by_exit=True))


def test_a_worker_of_a_screen_that_stays_gets_what_was_made() -> None:
    async def stay() -> str:
        async with OneApp().run_test() as pilot:
            screen = pilot.app.screen
            assert isinstance(screen, Waiting)
            worker = screen.run_worker(screen.work())
            screen.go.set()
            return await worker.wait()

    assert asyncio.run(stay()) == "gone first"

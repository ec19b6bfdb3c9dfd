"""Keys wait for what the key before them leads to, and for nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from halos_tui.feed import in_background
from halos_tui.screens.dialogs import EntryDialog
from halos_tui.terminal import key_order
from tests.support.app_fixtures import OneScreenApp, drive, opened, until


class FieldScreen(Screen[None]):
    """f9 asks for a name after a while; the answer is put before the text."""

    BINDINGS: ClassVar[list[BindingType]] = [("f9", "ask", "Ask")]

    def compose(self) -> ComposeResult:
        yield Input()

    def action_ask(self) -> None:
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        with key_order.keys_held(self.app):
            await in_background(lambda: None)
            answer = await self.app.push_screen_wait(EntryDialog("A name?"))
            await in_background(lambda: None)
            self.field.value = f"{answer}{self.field.value}"
            self.field.cursor_position = len(self.field.value)

    @property
    def field(self) -> Input:
        return self.query_one(Input)


def at_once(app: OneScreenApp, *keys: str) -> None:
    for key in keys:
        app.simulate_key(key)


async def until_typed(app: OneScreenApp, pilot: Pilot[int], text: str) -> None:
    await until(pilot, lambda: app.first.field.value == text, what=f"{text!r} in the field")


def test_keys_go_to_a_dialog_that_opens_later_and_then_back() -> None:
    async def do() -> None:
        async with opened(FieldScreen, root=Path("/nowhere")) as (app, pilot):
            at_once(app, *"89", "backspace", "1", "f9", *"ab", "left", "x", "enter", *"yz")
            await until_typed(app, pilot, "axb81yz")

    drive(do())


def test_a_hold_that_nobody_ends_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_order, "HOLD_S", 0.2)

    async def do() -> None:
        async with opened(FieldScreen, root=Path("/nowhere")) as (app, pilot):
            app.hold_keys("somebody")
            at_once(app, *"ab", "backspace", "c")
            await until_typed(app, pilot, "ac")

    drive(do())


def test_ctrl_c_leaves_the_app_while_keys_are_held() -> None:
    async def do() -> None:
        async with opened(FieldScreen, root=Path("/nowhere")) as (app, _pilot):
            app.hold_keys("somebody")
            at_once(app, "a", "backspace", "b", "ctrl+c")
            async with asyncio.timeout(key_order.HOLD_S / 2):
                while not app._exit:
                    await asyncio.sleep(0.01)
            assert app.first.field.value != "b"

    drive(do())


def test_a_key_that_comes_alone_waits_for_nothing() -> None:
    async def do() -> None:
        async with opened(FieldScreen, root=Path("/nowhere")) as (app, pilot):
            app.hold_keys("somebody")
            at_once(app, "a")
            await pilot.pause()
            assert app.first.field.value == "a"

    drive(do())

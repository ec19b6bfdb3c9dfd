"""Help, palette and footer are made from the registry; read-only leaves out what writes."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from textual.command import CommandPalette
from textual.widgets import Input

from halos_tui.actions import ACTIONS, ScreenName, actions_of
from halos_tui.run.screen import RunScreen
from halos_tui.runs.screen import RunsScreen
from halos_tui.screens.help import HelpScreen
from halos_tui.widgets.footer import Footer
from tests.support.app_fixtures import drive, opened, screen_text, until, until_shown
from tests.support.made_run import MadeRun
from tests.support.shell_fixtures import listed, shell

WRITING = [action for action in ACTIONS if action.writes]


def tooltips(screen: ScreenName) -> list[str]:
    """What the actions on a run that is lost say they do."""
    return [
        "Go on at the exact stage" if action.id == "pause" else action.tooltip
        for action in actions_of(screen)
    ]


def footer_text(screen_text: str) -> str:
    return screen_text.splitlines()[-1]


@pytest.mark.parametrize("screen", get_args(ScreenName))
def test_no_two_actions_of_a_screen_share_a_key(screen: ScreenName) -> None:
    keys = [key for action in actions_of(screen) for key in action.keys.split(",")]
    assert len(keys) == len(set(keys))


def test_every_action_has_a_title_and_says_what_it_does() -> None:
    for action in ACTIONS:
        assert action.title and len(action.tooltip) > 10


@pytest.mark.parametrize("screen", [RunsScreen, RunScreen, HelpScreen])
def test_every_action_of_the_registry_can_be_done(screen: type[RunsScreen]) -> None:
    for action in actions_of(screen.NAME):
        assert callable(getattr(screen, f"action_{action.id}", None)), action.id


def test_help_shows_every_action_of_its_screen(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=(100, 60)) as (app, pilot):
            await listed(pilot, "a-run")
            await pilot.press("question_mark")
            shown = await until_shown(pilot, *tooltips("runs"))
            assert "theme and mouse" in shown
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, RunScreen))
            await pilot.press("question_mark")
            await until_shown(pilot, *tooltips("run"))

    drive(look())


def test_help_has_a_frame_where_panels_have_boxes(tmp_path: Path) -> None:
    async def look() -> None:
        async with shell(tmp_path, size=(100, 40)) as (_, pilot):
            await pilot.press("question_mark")
            shown = await until_shown(pilot, "runs: all keys", "Set up and start")
            first, top, *_ = shown.splitlines()
            assert first.strip() == "runs: all keys"
            assert top.startswith("╭─ keys ─") and top.endswith("╮")

    drive(look())


def test_help_scrolls_where_it_does_not_fit(tmp_path: Path) -> None:
    async def look() -> None:
        async with shell(tmp_path, size=(60, 12)) as (_, pilot):
            await pilot.press("question_mark")
            shown = await until_shown(pilot, "Set up and start")
            assert "config.toml" not in shown
            await pilot.press("end")
            await until_shown(pilot, "config.toml")
            await pilot.press("home")
            await until_shown(pilot, "Set up and start")

    drive(look())


def test_help_is_searched(tmp_path: Path) -> None:
    async def look() -> None:
        async with shell(tmp_path, size=(100, 60)) as (app, pilot):
            await pilot.press("question_mark")
            await until_shown(pilot, "Open the run")
            await pilot.press("slash", *"PALETTE", "enter")
            shown = await until_shown(pilot, "Find an action by its name")
            assert "Open the run" not in shown
            await pilot.press("escape")
            await until_shown(pilot, "Open the run")
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))

    drive(look())


def test_the_footer_says_that_runs_go_on_at_every_width(tmp_path: Path) -> None:
    MadeRun(tmp_path).whole_round(1)

    async def look() -> None:
        async with shell(tmp_path, size=(80, 24)) as (app, pilot):
            assert footer_text(await until_shown(pilot, "Quit")).endswith(
                "? Help  / Search  q Quit (runs go on)"
            )
            await pilot.resize_terminal(26, 24)
            await until(pilot, lambda: "Search" not in footer_text(screen_text(app)))
            assert "q Quit (runs go on)" in footer_text(screen_text(app))
            await pilot.resize_terminal(200, 24)
            await until(pilot, lambda: "Logs" in footer_text(screen_text(app)))

    drive(look())


def test_a_click_on_the_footer_presses_the_key(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=(160, 24)) as (app, pilot):
            await listed(pilot, "a-run")
            line = footer_text(await until_shown(pilot, "Sort", "Help"))
            await pilot.click(Footer, offset=(line.index("Sort"), 0))
            await until_shown(pilot, "by name")
            await pilot.click(Footer, offset=(line.index("? Help"), 0))
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))

    drive(look())


def test_while_one_types_the_footer_shows_no_letters(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=(160, 24)) as (app, pilot):
            await listed(pilot, "a-run", "p Resume")
            await pilot.press("slash")
            await until(pilot, lambda: "p Resume" not in footer_text(screen_text(app)))
            await pilot.press("escape")
            await until_shown(pilot, "p Resume")

    drive(look())


def test_the_palette_does_what_its_entries_say(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=(100, 40)) as (app, pilot):
            await listed(pilot, "a-run")
            await pilot.press("ctrl+p")
            await until(pilot, lambda: isinstance(app.screen, CommandPalette))
            app.screen.query_one(Input).value = "Select"
            await until_shown(pilot, "Select or deselect the run")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))
            await until_shown(pilot, "1 selected")
            await pilot.press("ctrl+p")
            await until(pilot, lambda: isinstance(app.screen, CommandPalette))
            app.screen.query_one(Input).value = "Theme light"
            await until_shown(pilot, "Its colours")
            await pilot.press("enter")
            await until(pilot, lambda: app.theme == "light")

    drive(look())


def test_q_leaves(tmp_path: Path) -> None:
    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await pilot.press("q")
            await until(pilot, lambda: app.return_code is not None)
            assert app.return_code == 0

    drive(look())


def test_read_only_offers_nothing_that_writes(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with opened(RunsScreen, root=tmp_path, read_only=True, size=(200, 40)) as (
            app,
            pilot,
        ):
            await listed(pilot, "a-run", "read-only")
            assert footer_text(screen_text(app)).startswith("read-only")
            before = sorted(path.name for path in (tmp_path / "a-run").rglob("*"))
            for writing in WRITING:
                assert f" {writing.title} " not in footer_text(screen_text(app))
                if "runs" in writing.screens:  # elsewhere another action may have its key
                    await pilot.press(*writing.keys.split(","))
            await pilot.pause()
            assert app.opened == []
            assert app.screen_stack[-1] is app.screen and isinstance(app.screen, RunsScreen)
            assert sorted(path.name for path in (tmp_path / "a-run").rglob("*")) == before

    drive(look())


def test_read_only_help_and_palette_offer_nothing_that_writes(tmp_path: Path) -> None:
    MadeRun(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, read_only=True, size=(100, 60)) as (app, pilot):
            await pilot.press("question_mark")
            shown = await until_shown(pilot, "Select all")
            assert all(action.tooltip not in shown for action in WRITING)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))
            await pilot.press("ctrl+p")
            shown = await until_shown(pilot, "Its colours", "Select or deselect")
            assert all(action.tooltip not in shown for action in WRITING)

    drive(look())


def test_a_terminal_that_is_too_small_says_so_until_it_is_large_enough(tmp_path: Path) -> None:
    async def look() -> None:
        async with shell(tmp_path, size=(80, 24)) as (app, pilot):
            await pilot.press("question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            for size in ((20, 5), (39, 24), (80, 9), (1, 1)):
                await pilot.resize_terminal(*size)
                await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
                if size[0] > 20:
                    await until_shown(pilot, "needs at least 40x10")
                await pilot.resize_terminal(80, 24)
                await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            await pilot.resize_terminal(20, 5)
            await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))

    drive(look())

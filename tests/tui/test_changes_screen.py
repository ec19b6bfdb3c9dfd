"""The changes screen: the history, the rounds that are compared, and what its keys do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import RequestRejected
from textual.screen import Screen

from halos_tui.actions import actions_of
from halos_tui.changes.screen import ChangeList, ChangesScreen
from halos_tui.screens.base import has_room
from tests.support.app_fixtures import drive, opened, screen_text, until, until_shown, until_told
from tests.support.changes_fixtures import change, steered_run
from tests.support.hostile_texts import FORBIDDEN, HOSTILE
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.watchdog import Block, Watchdog, drive_unblocked

WIDE = (200, 60)
TALL = (80, 60)


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return steered_run(tmp_path / "runs")


def steered(run: MadeRun) -> None:
    """Four rounds; the second has another learning rate, the third another group size."""
    run.whole_round(1)
    change(run, 2, train__lr=1e-6)
    run.whole_round(2, reward_mean=0.625)
    change(run, 3, by="bob@box", sample__group_size=8)
    run.whole_round(3, reward_mean=0.75)
    run.whole_round(4, reward_mean=1.0)


def screen_of(run: MadeRun) -> Callable[[], Screen[Any]]:
    return lambda: ChangesScreen(run.dir)


def shown_at(
    run: MadeRun,
    *texts: str,
    keys: tuple[str, ...] = (),
    first: str = "",
    size: tuple[int, int] = TALL,
    **options: Any,
) -> str:
    """What the screen shows once `first` is on it, keys are pressed and all texts are on it."""
    found: list[str] = []

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=size, **options) as (_, pilot):
            await until_shown(pilot, first)
            await pilot.press(*keys)
            found.append(await until_shown(pilot, *texts))

    drive(look())
    return found[0]


@pytest.mark.parametrize("size", [TALL, WIDE])
def test_the_newest_change_is_shown_with_the_rounds_around_it(
    run: MadeRun, size: tuple[int, int]
) -> None:
    steered(run)

    shown = shown_at(run, "round 2 -> round 3", "reward +0.12", "alice@box", size=size)

    assert "a-run  1 of 2 changes" in shown
    assert "lost, round 4 of 5" in shown
    assert "from round 3, set by bob@box" in shown
    assert "1 setting differs" in shown
    assert "sample.group_size  2 -> 8" in shown
    (row,) = (line for line in shown.splitlines() if "train.lr" in line)
    assert row.strip("│ ").split()[3:9] == ["2", "train.lr", "5e-06", "->", "1e-06", "alice@box"]


def test_columns_that_no_change_needs_are_not_there(run: MadeRun) -> None:
    """All changes hold, so that none has a word about its fate; who made them is not cut."""
    steered(run)

    shown = shown_at(run, "round 2 -> round 3", " age round", size=(80, 40))

    heading, first, second = shown.splitlines()[2:5]
    assert heading.split() == ["when", "age", "round", "change", "by"]
    assert heading.index("change") == heading.index("round") + len("round ")
    by = heading.index("by")
    assert [row[by:].strip() for row in (first, second)] == ["bob@box", "alice@box"]


def test_history_and_page_stand_beside_each_other_where_there_is_room(run: MadeRun) -> None:
    steered(run)

    for size, is_beside in ((WIDE, True), ((120, 40), True), (TALL, False)):
        shown = shown_at(run, "round 2 -> round 3", " age round", size=size)
        (heading,) = (line for line in shown.splitlines() if " age round" in line)
        assert ("sample.group_size 2 -> 8" in heading) == is_beside


def test_the_page_follows_the_cursor(run: MadeRun) -> None:
    steered(run)

    shown = shown_at(
        run, "round 1 -> round 2", "set by alice@box", keys=("down",), first="round 2 -> round 3"
    )

    assert "2 of 2 changes" in shown
    assert "train.lr  5e-06 -> 1e-06" in shown
    assert "shows in its reward from round 3 on" in " ".join(shown.split())


def test_brackets_move_the_newer_round_and_braces_the_older_one(run: MadeRun) -> None:
    steered(run)
    steps = (
        ("right_square_bracket", "round 2 -> round 4"),
        ("right_square_bracket", "round 2 -> round 4"),  # there is no later one
        ("left_curly_bracket", "round 1 -> round 4"),
        ("left_curly_bracket", "created -> round 4"),
        ("right_curly_bracket", "round 1 -> round 4"),
        ("left_square_bracket", "round 1 -> round 3"),
        ("left_square_bracket", "round 1 -> round 2"),
        ("left_square_bracket", "round 1 -> round 2"),  # never the older one
    )

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=TALL) as (app, pilot):
            await until_shown(pilot, "round 2 -> round 3", "set by bob@box")
            for key, rounds in steps:
                await pilot.press(key)
                shown = await until_shown(pilot, rounds, "rounds chosen by hand")
                assert "set by" not in shown
            await pilot.press("escape")
            await until_shown(pilot, "round 2 -> round 3", "set by bob@box")
            assert "by hand" not in screen_text(app)

    drive(look())


def test_keys_that_are_pressed_faster_than_files_are_read_all_count(run: MadeRun) -> None:
    steered(run)

    shown_at(
        run,
        "created -> round 4",
        keys=("left_curly_bracket", "left_curly_bracket", "right_square_bracket"),
        first="round 2 -> round 3",
    )


def test_another_change_takes_the_rounds_along(run: MadeRun) -> None:
    steered(run)

    shown = shown_at(
        run,
        "round 1 -> round 2",
        "set by alice@box",
        keys=("right_square_bracket", "down"),
        first="round 2 -> round 3",
    )

    assert "by hand" not in shown


def test_enter_shows_the_page_of_the_change_alone(run: MadeRun) -> None:
    steered(run)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "round 2 -> round 3", "bob@box")
            await pilot.press("right_square_bracket")
            await until_shown(pilot, "round 2 -> round 4")
            await pilot.press("enter")
            await until(pilot, lambda: " age round" not in screen_text(app))
            await until_shown(pilot, "round 2 -> round 4", "steps")
            await pilot.press("end")  # the page has the keys now
            await until_shown(pilot, "train time")
            await pilot.press("escape")
            await until_shown(pilot, " age round")
            await pilot.press("enter", "enter")
            await until_shown(pilot, " age round")

    drive(look())


def test_the_page_scrolls_while_the_history_has_the_cursor(run: MadeRun) -> None:
    steered(run)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "round 2 -> round 3", "lines below; J and K scroll")
            await pilot.press("J")
            await until(pilot, lambda: "round 2 -> round 3" not in screen_text(app))
            await pilot.press("space")
            await until_shown(pilot, "train time")
            await pilot.press("K", "K", "K")
            await until_shown(pilot, "round 2 -> round 3", "1 of 2")

    drive(look())


def test_the_filter_looks_for_names_of_settings(run: MadeRun) -> None:
    steered(run)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=TALL) as (app, pilot):
            await until_shown(pilot, "1 of 2 changes")
            await pilot.press("slash", *"lr")
            await until_shown(pilot, "1 of 1 change", "filter lr", "round 1 -> round 2")
            await pilot.press("enter")
            await until(pilot, lambda: app.first.focused is app.screen.query_one(ChangeList))
            await pilot.press("slash", *"x", "enter")
            await until_shown(pilot, "nothing fits the filter", "round 3 -> round 4")
            await pilot.press("escape")
            await until_shown(pilot, "2 of 2 changes")  # the cursor is back on the one it was on
            await pilot.press("slash", *"/^train[", "enter")
            await until_shown(pilot, "is no pattern")
            await pilot.press("backspace", "enter")
            await until_shown(pilot, "1 of 1 change")
            await pilot.press("slash", "escape")
            await until_shown(pilot, "2 of 2 changes")  # the cursor is on the one it found

    drive(look())


def test_copy_takes_the_page(run: MadeRun) -> None:
    steered(run)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await pilot.press("y")
            await until_shown(pilot, "round 2 -> round 3")
            await pilot.press("y")
            await until(pilot, lambda: app.clipboard)
            await until_told(pilot, f"copied {len(app.clipboard):,} characters")
            lines = app.clipboard.splitlines()
            assert lines[0] == "sample.group_size 2 -> 8"
            assert "  sample.group_size  2 -> 8" in lines
            assert any(line.startswith("train time") for line in lines)  # also what is below

    drive(look())


def test_copy_and_write_before_there_is_anything_say_so(run: MadeRun) -> None:
    run.dir.events.write_bytes(b"rubbish\n")

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "events.jsonl, line 1")
            await pilot.press("y", "w", "enter", "left_square_bracket", "slash", "escape")
            await until_told(pilot, "nothing to copy yet", "nothing to write yet")

    drive(look())


def test_write_makes_a_file_and_never_overwrites_one_unasked(run: MadeRun, tmp_path: Path) -> None:
    steered(run)
    path = tmp_path / "out"

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=(160, 24)) as (app, pilot):
            await until_shown(pilot, "round 2 -> round 3")
            await pilot.press("w", *str(path), "enter")
            await until_told(pilot, "written to")
            written = path.read_text()
            assert written.startswith("a-run: 2 changes\nwhen ")
            assert "set by alice@box  train.lr 5e-06 -> 1e-06" in written
            assert "\nround 2 -> round 3\n" in written
            path.write_text("mine")
            await pilot.press("w", *str(path), "enter")
            await until_shown(pilot, "exists; enter overwrites it, escape does not")
            await pilot.press("escape")
            await until(pilot, lambda: "overwrites" not in screen_text(app))
            assert path.read_text() == "mine"
            await pilot.press("w", "enter")
            await until_shown(pilot, "give the path of a file")
            await pilot.press(*str(path), "enter")
            await until_shown(pilot, "overwrites")
            await pilot.press("enter")
            await until(pilot, lambda: path.read_text() == written)

    drive(look())


def test_escape_goes_back_to_the_screen_before(run: MadeRun) -> None:
    steered(run)

    async def look() -> None:
        def both() -> Screen[Any]:
            return ChangesScreen(run.dir)

        async with opened(both, root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "1 of 2")
            app.push_screen(ChangesScreen(run.dir))
            await until(pilot, lambda: len(app.screen_stack) == 3)
            await until_shown(pilot, "1 of 2")
            await pilot.press("slash", *"lr", "enter", "right_square_bracket", "enter")
            for num_screens in (3, 3, 3, 2):  # page, rounds, filter, screen
                await pilot.press("escape")
                await pilot.pause()
                assert len(app.screen_stack) == num_screens

    drive(look())


def test_every_action_of_the_screen_can_be_done() -> None:
    for action in actions_of("changes"):
        assert callable(getattr(ChangesScreen, f"action_{action.id}", None)), action.id


# --- what there is to show ------------------------------------------------------------------


def test_without_changes_rounds_are_compared_all_the_same(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2, reward_mean=0.75)

    shown = shown_at(run, "nothing was changed", "round 1 -> round 2", "reward +0.25", size=TALL)

    assert "no setting differs" in shown


def test_one_round_is_compared_with_the_settings_at_the_start(run: MadeRun) -> None:
    run.whole_round(1)

    shown = shown_at(run, "created -> round 1", "no setting differs", "reward")

    assert "created: the settings that the run was created with" in shown


def test_no_round_is_said_to_be_none(run: MadeRun) -> None:
    keys = ("left_square_bracket", "right_curly_bracket", "enter", "y", "escape")

    shown_at(run, "no round has begun: there is nothing to compare yet", "nothing was changed")
    shown_at(run, "no round has begun", keys=keys, first="no round has begun", size=(80, 24))


def test_a_change_before_the_first_round_is_there_at_once(run: MadeRun) -> None:
    change(run, 1, train__lr=1e-6)

    shown_at(run, "waits for round 1", "created -> round 1", "round 1 has not begun")


def test_changes_that_come_while_one_looks_appear_and_the_cursor_stays(run: MadeRun) -> None:
    run.whole_round(1)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=TALL) as (_, pilot):
            await until_shown(pilot, "nothing was changed", "created -> round 1")
            change(run, 2, train__lr=1e-6)
            await until_shown(pilot, "1 of 1 change", "waits for round 2", "round 1 -> round 2")
            change(run, 4, sample__group_size=8)
            await until_shown(pilot, "2 of 2 changes", "waits for round 2", "sample.group_size")
            run.whole_round(2, reward_mean=0.9)
            await until_shown(pilot, "reward +0.4", "more than noise")

    drive(look())


def test_a_refused_change_says_why(run: MadeRun) -> None:
    run.whole_round(1)
    run.say(RequestRejected(t=STARTED_T, request_id="gone", reason="lr:\n  takes above 0"))

    shown = shown_at(run, "refused", "asked for by somebody")

    assert "\n  lr:\n    takes above 0\n" in shown


def test_many_changes_are_gone_through_without_a_pause(run: MadeRun) -> None:
    run.whole_round(1)
    for number in range(400):
        change(run, 2 + number % 3, train__lr=1e-6 * (number + 1))

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "1 of 400 changes")
            with Watchdog() as dog:
                await pilot.press("end")
                await until_shown(pilot, "400 of 400", "replaced by the change of")
                await pilot.press("pageup", "up", "home", "down", "down")
                await until_shown(pilot, "3 of 400")
            return dog.blocks

    drive_unblocked(look)


# --- bad input ------------------------------------------------------------------------------


def test_a_corrupt_journal_is_named(run: MadeRun) -> None:
    steered(run)
    journal = run.dir.events.read_bytes()
    run.dir.events.write_bytes(b"rubbish\n" + journal)

    shown_at(run, "events.jsonl, line 1", size=WIDE)


def test_a_journal_of_something_else_is_named(run: MadeRun) -> None:
    run.dir.events.write_bytes(b"")

    shown_at(run, "this is no run's journal", size=WIDE)


def test_a_run_of_a_later_version_says_what_to_do(run: MadeRun) -> None:
    journal = run.dir.events.read_text()
    run.dir.events.write_text(journal.replace('"schema_version":1', '"schema_version":99', 1))

    shown_at(run, "install that version", size=WIDE)


def test_a_run_deleted_while_open_is_said_to_be_gone(run: MadeRun) -> None:
    steered(run)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=WIDE) as (app, pilot):
            await until_shown(pilot, "round 2 -> round 3")
            shutil.rmtree(run.dir.path)
            await until_shown(pilot, "is no longer there")
            await pilot.press("down", "right_square_bracket", "enter", "y", "escape")
            await pilot.pause(0.3)
            assert app.is_running

    drive(look())


def test_hostile_text_is_shown_as_text(run: MadeRun) -> None:
    change(run, 1, by=HOSTILE, policy__chat_template=HOSTILE)
    run.whole_round(1)
    change(run, 2, policy__chat_template="x" * 1_000_000)

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=run.dir.path.parent, size=WIDE) as (app, pilot):
            await until_shown(pilot, "1 of 2 changes")
            with Watchdog() as dog:
                await pilot.press("down")
                shown = await until_shown(pilot, "2 of 2", "[red]markup[/red]", "\\u202edesrever")
            raw = shown.encode()
            assert [bad for bad in FORBIDDEN if bad in raw] == []
            await pilot.press("y")
            await until(pilot, lambda: "[red]markup" in app.clipboard)
            assert [bad for bad in FORBIDDEN if bad in app.clipboard.encode()] == []
            return dog.blocks

    drive_unblocked(look)


@pytest.mark.parametrize("is_ascii", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(80, 24), (120, 40), WIDE, (40, 10), (20, 5), (1, 1), (300, 12)])
def test_every_size(run: MadeRun, size: tuple[int, int], is_ascii: bool) -> None:
    change(run, 1, by="é 你好", train__lr=1e-6)
    run.whole_round(1)
    run.whole_round(2, reward_mean=0.9)

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=size, is_ascii=is_ascii) as (app, pilot):
            await until(pilot, lambda: app.first.view is not None)
            if not has_room(size):
                await pilot.resize_terminal(100, 40)
                await until(pilot, lambda: app.screen is app.first)
            await pilot.press("down", "up", "right_square_bracket", "enter", "J", "escape")
            await pilot.press("slash", "escape", "w", "escape")
            await pilot.resize_terminal(100, 60)
            name = "\\xe9 \\u4f60" if is_ascii else "é 你好"
            shown = await until_shown(pilot, name, "+-" if is_ascii else "±", "train time")
            assert not is_ascii or "".join(shown.splitlines()[:-1]).isascii()
            await pilot.resize_terminal(*size)
            await pilot.pause()

    drive(look())


def test_everything_is_there_with_read_only(run: MadeRun) -> None:
    steered(run)

    shown_at(
        run,
        "round 2 -> round 4",
        keys=("right_square_bracket",),
        first="round 2 -> round 3",
        read_only=True,
    )

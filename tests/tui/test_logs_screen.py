"""The logs screen: which log it shows, where in it one is, and what its keys do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from halos_tui.logs.log_view import LogRows
from halos_tui.logs.screen import LogsScreen
from halos_tui.screens.base import has_room
from tests.support.app_fixtures import drive, opened, screen_text, until, until_shown, until_told
from tests.support.made_run import MadeRun
from tests.support.watchdog import Block, Watchdog, drive_unblocked

WIDE = (200, 60)
NUM_LINES = 5_000


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path / "runs")


def written(run: MadeRun, content: bytes) -> Path:
    """The log of the newest attempt of a run with one round."""
    run.whole_round(1)
    path = run.dir.attempt(1, "train", 1).log
    path.write_bytes(content)
    return path


def numbered(*numbers: int) -> bytes:
    return b"".join(b"line %d of it\n" % number for number in numbers)


def screen_of(run: MadeRun, **about: Any) -> Callable[[], Screen[Any]]:
    return lambda: LogsScreen(run.dir, **about)


def shown_at(
    run: MadeRun,
    *texts: str,
    keys: tuple[str, ...] = (),
    first: str = "",
    size: tuple[int, int] = (80, 24),
    is_ascii: bool = False,
    **about: Any,
) -> str:
    """What the screen shows once `first` is on it, keys are pressed and all texts are on it."""
    found: list[str] = []

    async def look() -> None:
        root = run.dir.path.parent
        screen = screen_of(run, **about)
        async with opened(screen, root=root, size=size, is_ascii=is_ascii) as (_, pilot):
            await until_shown(pilot, first)
            await pilot.press(*keys)
            found.append(await until_shown(pilot, *texts))

    drive(look())
    return found[0]


def at_cursor(app: Any) -> str:
    row = app.screen.query_one(LogRows).at_cursor
    return "" if row is None else "".join(text for text, _ in row.runs)


def test_the_newest_log_is_shown_at_its_end_and_followed(run: MadeRun) -> None:
    written(run, numbered(*range(NUM_LINES)))

    shown = shown_at(run, "train of round 1", "line 4999 of it", "100.0% of", "following")

    # 24 lines less title and two of keys
    assert [line for line in shown.splitlines() if line.startswith("line ")] == [
        f"line {number} of it" for number in range(NUM_LINES - 21, NUM_LINES)
    ]


def test_a_round_and_a_stage_may_be_asked_for(run: MadeRun) -> None:
    run.whole_round(1)
    run.whole_round(2)
    run.dir.attempt(1, "label", 1).log.write_bytes(b"of the judge\n")

    shown_at(run, "label of round 1", "of the judge", round=1, stage="label")
    shown_at(run, "train of round 1", round=1)
    shown_at(run, "label of round 2", stage="label")


def test_an_attempt_that_has_not_started_yet_says_so_and_appears(run: MadeRun) -> None:
    run.whole_round(1)

    async def look() -> None:
        screen = screen_of(run, round=2, stage="sample")
        async with opened(screen, root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "sample of round 2", "has not started yet")
            run.start_round(2)
            attempt = run.start_stage(2, "sample")
            await until_shown(pilot, "nothing is written yet")
            attempt.log.write_bytes(b"here it is\n")
            await until_shown(pilot, "here it is")

    drive(look())


def test_a_run_without_attempts_shows_its_supervisor(run: MadeRun) -> None:
    run.dir.supervisor_log.write_bytes(b"supervising\n")

    shown_at(run, "a-run  supervisor", "supervising")


def test_an_empty_log_says_so(run: MadeRun) -> None:
    written(run, b"")

    shown_at(run, "train of round 1", "nothing was printed")


def test_new_lines_are_followed_until_one_scrolls_up(run: MadeRun) -> None:
    path = written(run, numbered(*range(100)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 99 of it")
            append(path, numbered(100))
            await until_shown(pilot, "line 100 of it", "following")
            await pilot.press("up")
            await until_shown(pilot, "not following")
            append(path, numbered(*range(101, 200)))
            await until_shown(pilot, "new below")
            assert "line 100 of it" in screen_text(app)
            assert at_cursor(app) == "line 99 of it"
            await pilot.press("f")
            await until_shown(pilot, "line 199 of it", "following")
            await pilot.press("f")
            await until_shown(pilot, "not following", "line 199 of it")
            assert at_cursor(app) == "line 199 of it"

    drive(look())


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as log:
        log.write(content)


@pytest.mark.slow
def test_the_cursor_goes_through_the_whole_log(run: MadeRun) -> None:
    written(run, numbered(*range(1000)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 999 of it")
            await pilot.press("g")
            await until(pilot, lambda: at_cursor(app) == "line 0 of it")
            seen = []
            for _ in range(400):
                await pilot.press("down")
                seen.append(at_cursor(app))
            # none is left out, and none comes twice but where one has to wait for more
            distinct = list(dict.fromkeys(seen))
            assert distinct == [f"line {number} of it" for number in range(1, len(distinct) + 1)]
            assert len(distinct) > 100
            await pilot.press("G")
            await until(pilot, lambda: at_cursor(app) == "line 999 of it")
            await pilot.press("pageup", "pageup")
            await until(pilot, lambda: at_cursor(app) == "line 959 of it")
            await pilot.press("pagedown")
            await until(pilot, lambda: at_cursor(app) == "line 979 of it")

    drive(look())


def test_search_goes_down_up_and_round_the_ends(run: MadeRun) -> None:
    content = numbered(*range(3000))
    written(run, content.replace(b"line 40 ", b"NEEDLE 40 ").replace(b"line 2000 ", b"needle b "))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 2999 of it")
            await pilot.press("slash", *"needle", "enter")
            await until(pilot, lambda: at_cursor(app) == "NEEDLE 40 of it")
            await until_told(pilot, "from its other end")
            await pilot.press("n")
            await until(pilot, lambda: at_cursor(app) == "needle b of it")
            await pilot.press("N")
            await until(pilot, lambda: at_cursor(app) == "NEEDLE 40 of it")
            await pilot.press("N")
            await until(pilot, lambda: at_cursor(app) == "needle b of it")
            row = app.screen.query_one(LogRows).at_cursor
            assert row is not None
            assert row.runs[0] == ("needle", "hit")
            await pilot.press("escape")
            await until(pilot, lambda: row_runs(app)[0] == ("needle b of it", ""))

    drive(look())


def row_runs(app: Any) -> tuple[tuple[str, str], ...]:
    row = app.screen.query_one(LogRows).at_cursor
    return () if row is None else row.runs


def test_n_without_a_search_asks_for_one(run: MadeRun) -> None:
    written(run, numbered(1, 2, 3))

    shown_at(run, "search", "words, or /pattern", keys=("n",), first="line 3")


def test_a_pattern_is_searched_for_and_a_bad_one_refused(run: MadeRun) -> None:
    written(run, numbered(*range(100)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 99 of it")
            await pilot.press("slash", *"/ 1[", "enter")
            shown = await until_shown(pilot, "is no pattern")
            assert shown.count("no pattern") == 1
            await pilot.press(*"57] of", "enter")
            await until(pilot, lambda: at_cursor(app) == "line 15 of it")
            await pilot.press("n")
            await until(pilot, lambda: at_cursor(app) == "line 17 of it")

    drive(look())


def test_what_is_not_there_is_said_to_be_so(run: MadeRun) -> None:
    written(run, numbered(*range(100)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 99 of it")
            await pilot.press("slash", *"nowhere", "enter")
            await until_told(pilot, "not found")
            assert at_cursor(app) == "line 99 of it"

    drive(look())


def test_a_long_search_shows_how_far_it_is_and_is_stopped_with_escape(run: MadeRun) -> None:
    path = written(run, b"")
    path.write_bytes(b"x" * 80 + b"\n")
    with path.open("r+b") as log:
        log.truncate(40_000_000_000)  # a hole, so that it takes no room on the disk

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "37.3 GiB")
            await pilot.press("g")
            await until_shown(pilot, "xxxx")
            with Watchdog() as dog:
                await pilot.press("slash", *"nowhere", "enter")
                await until_shown(pilot, "searching", "esc stops")
                await until(pilot, lambda: "searching 0.0%" not in screen_text(app))
                await pilot.press("down", "up")
                await pilot.press("escape")
                await until(pilot, lambda: "searching" not in screen_text(app))
            return dog.blocks

    drive_unblocked(look)


def test_brackets_step_through_the_logs(run: MadeRun) -> None:
    run.start_round(1)
    run.start_stage(1, "sample")
    run.fail_stage(1, "sample", "no memory")
    run.start_stage(1, "sample", attempt=2)
    for attempt in (1, 2):
        path = run.dir.attempt(1, "sample", attempt).log
        path.write_bytes(b"try %d\n" % attempt)

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "sample of round 1, attempt 2 of 2", "try 2")
            await pilot.press("left_square_bracket")
            await until_shown(pilot, "attempt 1 of 2", "try 1")
            await pilot.press("left_square_bracket")
            await until_shown(pilot, "a-run  supervisor", "nothing is written yet")
            await pilot.press("left_square_bracket", "right_square_bracket")
            await until_shown(pilot, "attempt 1 of 2", "try 1")

    drive(look())


def test_a_log_is_chosen_from_the_list(run: MadeRun) -> None:
    run.whole_round(1)
    run.start_round(2)
    run.start_stage(2, "sample")
    run.dir.attempt(1, "label", 1).log.write_bytes(b"of the judge\n")

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "sample of round 2")
            await pilot.press("o")
            await until_shown(pilot, "5 logs", "* sample of round 2  running", "supervisor")
            await pilot.press("escape")
            await until(pilot, lambda: "5 logs" not in screen_text(app))
            await pilot.press("o", "up", "up", "enter")
            await until_shown(pilot, "a-run  label of round 1", "of the judge")

    drive(look())


def test_long_lines_are_cut_moved_sideways_and_wrapped(run: MadeRun) -> None:
    written(run, b"".join(b"%04d " % number for number in range(100)) + b"\nshort\n")

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            shown = await until_shown(pilot, "0000 0001", "short")
            assert "0015…" in shown  # 79 cells and the mark
            await pilot.press("right")
            # 16 cells, that is 3 numbers and a digit
            await until(pilot, lambda: screen_text(app).splitlines()[1].startswith("003 0004"))
            await pilot.press("left", "w")
            shown = await until_shown(pilot, "0099", "short")
            lines = shown.splitlines()[1:]
            assert [line[:4] for line in lines[:8]] == [
                *[f"{number:04}" for number in range(0, 97, 16)],
                "shor",
            ]
            await pilot.press("right", "w")
            await until(pilot, lambda: "0099" not in screen_text(app))

    drive(look())


def test_a_hit_far_to_the_right_is_brought_into_sight(run: MadeRun) -> None:
    written(run, b"x" * 5000 + b" needle " + b"y" * 5000 + b"\n")

    shown_at(run, "x needle y", keys=("slash", *"needle", "enter"), first="xxxx")


def test_a_line_of_a_megabyte_says_how_much_is_left_out(run: MadeRun) -> None:
    written(run, b"x" * (1 << 20) + b"\nend\n")

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            with Watchdog() as dog:
                await until_shown(pilot, "xxxx", "end")
                await pilot.press("w")
                await until_shown(pilot, "... 960 KiB more")
            return dog.blocks

    drive_unblocked(look)


def test_a_progress_bar_shows_its_last_state(run: MadeRun) -> None:
    written(run, b"begin\n 10%|#   | 1/10\r 50%|##  | 5/10\r100%|####| 10/10\nend\n")

    shown = shown_at(run, "100%|####| 10/10", "begin", "end")

    assert "50%" not in shown


def test_binary_rubbish_is_escaped(run: MadeRun) -> None:
    written(run, bytes(range(256)) + b"\nend\n")

    shown = shown_at(run, "\\x0e\\x0f", "end", keys=("w",), first="end", size=WIDE)

    assert "\\x80\\x81\\xfe\\xff" in shown.replace("\n", "") or "\\xfe\\xff" in shown


def test_copy_takes_the_line_at_the_cursor_whole(run: MadeRun) -> None:
    written(run, b"x" * 500 + b"\nlast\n")

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "last")
            await pilot.press("up", "y")
            await until_told(pilot, "copied 500 characters (1 line)")
            assert app.clipboard == "x" * 500

    drive(look())


def test_copy_takes_the_lines_that_are_chosen_as_they_are_shown(run: MadeRun) -> None:
    written(run, b"one\ntwo\x1b[31m\n 5%\r10%\nfour\n")

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "four")
            await pilot.press("up", "v", "up")
            await until_shown(pilot, "lines chosen to here, y copies")
            await pilot.press("y")
            await until_told(pilot, "(2 lines)")
            assert app.clipboard == "two\\x1b[31m\n10%"
            await until(pilot, lambda: "chosen" not in screen_text(app))
            await pilot.press("v")
            await until_shown(pilot, "lines chosen")
            await pilot.press("escape")
            await until(pilot, lambda: "chosen" not in screen_text(app))

    drive(look())


@pytest.mark.parametrize("is_ascii", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(80, 24), (120, 40), WIDE, (20, 5), (1, 1), (300, 4)])
def test_every_size(run: MadeRun, size: tuple[int, int], is_ascii: bool) -> None:
    written(run, numbered(*range(300)) + "é 你好\n".encode())

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=size, is_ascii=is_ascii) as (app, pilot):
            await until(pilot, lambda: app.first.view is not None)
            if not has_room(size):
                await pilot.resize_terminal(100, 30)
                await until(pilot, lambda: app.screen is app.first)
            await pilot.press("up", "right", "left", "w", "o", "down", "escape", "slash", "escape")
            await pilot.resize_terminal(100, 30)
            await pilot.press("G")
            shown = await until_shown(pilot, "\\xe9 \\u4f60" if is_ascii else "é 你好", "line 299")
            assert not is_ascii or "".join(shown.splitlines()[:-1]).isascii()
            await pilot.resize_terminal(*size)
            await pilot.pause()

    drive(look())


def test_a_log_that_is_replaced_or_cut_is_shown_anew(run: MadeRun) -> None:
    path = written(run, numbered(*range(100)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 99 of it")
            path.write_bytes(b"cut and new\n")
            await until_shown(pilot, "cut and new", "the file was truncated")
            assert "line 99" not in screen_text(app)

    drive(look())


def test_a_log_that_is_deleted_keeps_what_it_had(run: MadeRun) -> None:
    path = written(run, numbered(*range(100)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "line 99 of it")
            path.unlink()
            await until_shown(pilot, "the file is deleted", "line 99 of it")
            await pilot.press("g")
            await until_shown(pilot, "line 0 of it")

    drive(look())


def test_a_run_deleted_while_open_is_said_to_be_gone(run: MadeRun) -> None:
    written(run, numbered(*range(100)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent, size=WIDE) as (app, pilot):
            await until_shown(pilot, "line 99 of it")
            shutil.rmtree(run.dir.path)
            await until_shown(pilot, "is no longer there", "line 99 of it")
            await pilot.press("up", "g", "o", "escape", "right_square_bracket", "y")
            await pilot.pause(0.5)
            assert app.is_running

    drive(look())


def test_a_flood_of_lines_never_blocks_the_loop(run: MadeRun) -> None:
    path = written(run, b"begin\n")

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=run.dir.path.parent, size=WIDE) as (_, pilot):
            await until_shown(pilot, "begin")
            with Watchdog() as dog:
                for batch in range(20):
                    lines = numbered(*range(5000 * batch, 5000 * (batch + 1)))
                    await asyncio.to_thread(append, path, lines)
                    await pilot.press("up", "f")
                await until_shown(pilot, "line 99999 of it")
            return dog.blocks

    drive_unblocked(look)


def test_the_mouse_moves_the_cursor(run: MadeRun) -> None:
    written(run, numbered(*range(10)))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "line 9 of it")
            await pilot.click(LogRows, offset=(3, 4))
            await until(pilot, lambda: at_cursor(app) == "line 4 of it")

    drive(look())

"""The metrics screen: what it shows, and what each of its keys does."""

from __future__ import annotations

import csv
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key
from textual.screen import Screen

from halos_tui.metrics.chart_grid import ChartGrid
from halos_tui.metrics.screen import MetricsScreen
from halos_tui.screens.base import has_room
from halos_tui.widgets.ask_line import AskLine
from tests.support.app_fixtures import (
    OneScreenApp,
    drive,
    opened,
    screen_text,
    until,
    until_shown,
    until_told,
)
from tests.support.hostile_texts import FORBIDDEN, HOSTILE
from tests.support.made_run import MadeRun
from tests.support.metrics_fixtures import log_step, trained_run
from tests.support.watchdog import Block, Watchdog, drive_unblocked

WIDE = (200, 60)


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return trained_run(tmp_path / "runs")


def screen_of(*runs: MadeRun) -> Callable[[], Screen[Any]]:
    return lambda: MetricsScreen([run.dir for run in runs])


def charts(app: OneScreenApp) -> ChartGrid:
    grid = app.first.query_one(ChartGrid)
    assert isinstance(grid, ChartGrid)
    return grid


def shown_at(
    run: MadeRun,
    *texts: str,
    keys: tuple[str, ...] = (),
    size: tuple[int, int] = (80, 24),
    **options: Any,
) -> str:
    """What the screen shows once charts are on it, keys are pressed and all texts are on it."""
    found: list[str] = []

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=size, **options) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press(*keys)
            found.append(await until_shown(pilot, *texts))

    drive(look())
    return found[0]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), WIDE])
def test_charts_by_round_come_first(run: MadeRun, size: tuple[int, int]) -> None:
    shown = shown_at(run, "label.reward_mean  1.00", "train.kl_initial", size=size)
    assert "a-run  by round" in shown
    assert "4 charts of " in shown
    assert "1 by step" in shown
    assert "3 constant charts are left out; / shows all " in shown


def test_all_charts_are_there_once_one_looks_for_them(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "3 constant charts are left out")
            await pilot.press("slash")
            shown = await until_shown(pilot, "below")
            assert "constant charts" not in shown and " charts of " not in shown
            await pilot.press("enter", "end")
            await until_shown(pilot, "train.elapsed_s")
            await pilot.press("escape")
            await until_shown(pilot, "3 constant charts are left out", "4 charts of")
            await pilot.press("slash", "escape")
            await until_shown(pilot, "3 constant charts are left out", "4 charts of")
            await pilot.press("slash", *"truncated", "enter")
            await until_shown(pilot, "sample.truncated_frac  25%", "1 chart of")
            await pilot.press("w", "escape")
            await until_shown(pilot, "filter truncated")

    drive(look())


def test_x_changes_to_the_steps_of_the_newest_round_and_back(run: MadeRun) -> None:
    shown = shown_at(run, "by step, round 3", "loss  0.75", keys=("x",))
    assert "1 constant chart is left out" in shown
    shown_at(run, "by round", "label.reward_mean", keys=("x", "x"))


def test_rounds_are_laid_over_each_other_and_turned(run: MadeRun) -> None:
    shown_at(run, "rounds 2 to 3", "r2 0.50", "r3 0.75", keys=("o",))
    shown_at(run, "by step, round 3", keys=("o", "O"))
    shown_at(run, "by step, round 2", "loss  0.50", keys=("left_square_bracket",))
    keys = ("left_square_bracket", "left_square_bracket", "right_square_bracket")

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            for key, told in zip(keys, ("round 2", "round 1", "round 2"), strict=True):
                await pilot.press(key)
                await until_shown(pilot, f"by step, {told}")

    drive(look())


def test_a_pattern_chooses_charts_while_it_is_typed(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("slash", *"kl|mean$")
            shown = await until_shown(pilot, "3 charts", "sample.length_mean")
            assert "elapsed" not in shown
            await pilot.press("enter")
            await until_shown(pilot, "filter kl|mean$")
            await pilot.press("escape")
            await until(pilot, lambda: "filter" not in screen_text(pilot.app))
            await pilot.press("slash", *"no such")
            await until_shown(pilot, "nothing fits the filter")

    drive(look())


def test_a_wrong_pattern_is_told_beside_it_and_the_one_before_stays(run: MadeRun) -> None:
    shown = shown_at(run, "unterminated", keys=("slash", *"mean["))
    assert "label.reward_mean" in shown


def test_keys_that_come_with_enter_are_no_part_of_the_answer(run: MadeRun) -> None:
    """As a slow line delivers them."""

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("x", "slash")
            for key in ("l", "o", "s", "s", "enter", "L"):
                app.post_message(Key(key, key if len(key) == 1 else None))
            await until_shown(pilot, "filter loss", " log ", "1 chart")
            await pilot.press("slash")
            for key in ("x", "escape", "L"):
                app.post_message(Key(key, key if len(key) == 1 else None))
            await until(pilot, lambda: not charts(app).look.is_log)
            await until(pilot, lambda: "filter" not in screen_text(app))

    drive(look())


def test_the_cursor_reads_all_charts_at_one_place(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("left")
            await until_shown(pilot, "at 3", "label.reward_mean  1.00  at 3")
            await pilot.press("left")
            await until_shown(pilot, "reward_mean  0.25  at 2", "kl_initial  0.100  at 2")
            await pilot.press("shift+left")
            await until_shown(pilot, "label.reward_mean  0.50  at 1")
            await pilot.press("right")
            await until_shown(pilot, "label.reward_mean  0.25  at 2")
            await pilot.press("escape")
            await until_shown(pilot, "label.reward_mean  1.00")
            assert charts(app).look.cursor is None

    drive(look())


def test_the_cursors_point_leads_to_the_completions_of_its_round(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("enter")
            await until(pilot, lambda: app.opened)
            await pilot.press("left", "left", "enter")
            await until(pilot, lambda: len(app.opened) == 2)
            await pilot.press("escape", "left_square_bracket")
            await until_shown(pilot, "by step, round 2")
            await pilot.press("left", "enter")
            await until(pilot, lambda: len(app.opened) == 3)
            assert [more["round"] for _, _, more in app.opened] == [3, 2, 2]
            assert {about for _, about, _ in app.opened} == {(run.dir,)}

    drive(look())


def test_of_several_runs_one_says_whose_completions(run: MadeRun) -> None:
    other = trained_run(run.dir.path.parent, "b-run", rewards=(0.0, 2.0))

    async def look() -> None:
        async with opened(screen_of(run, other), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "● a-run  ◆ b-run  by round", "b-run 2.00")
            await pilot.press("left", "enter")  # at round 3, which b-run does not have
            await until(pilot, lambda: app.opened)
            await pilot.press("left", "enter")
            await until_shown(pilot, "Whose completions?", "a-run  round 2", "b-run  round 2")
            await pilot.press("down", "enter")
            await until(pilot, lambda: len(app.opened) == 2)
            assert [about for _, about, _ in app.opened] == [(run.dir,), (other.dir,)]

    drive(look())


def test_a_click_puts_the_cursor_at_the_nearest_point_and_two_open_it(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            # two charts beside each other: the second ends at the right edge, with round 3
            await pilot.click(ChartGrid, offset=(78, 4))
            await until_shown(pilot, "label.reward_mean  1.00  at 3")
            await pilot.click(ChartGrid, offset=(22, 4))
            await until_shown(pilot, "label.reward_mean  0.25  at 2")
            await pilot.click(ChartGrid, offset=(22, 4), times=2)
            await until(pilot, lambda: app.opened)
            assert app.opened[0][2] == {"round": 2}

    drive(look())


def test_zoom_goes_in_around_the_cursor_and_out_again(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "runs", rewards=[float(round) for round in range(17)])

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("plus")  # 1 to 17, around the middle, 9
            assert charts(app).look.window == (5, 13)
            await pilot.press("left")  # the cursor begins at the last point, out of the window
            assert charts(app).look.cursor == 17
            assert charts(app).look.window == (9, 17)
            await pilot.press("plus")
            assert charts(app).look.window == (13, 17)
            await pilot.press("minus")
            assert charts(app).look.window == (9, 17)
            await pilot.press("0")
            assert charts(app).look.window == (None, None)
            await pilot.press("plus", "minus")
            assert charts(app).look.window == (None, None), "no narrower than the data"

    drive(look())


def test_log_scale_and_smoothing_are_told(run: MadeRun) -> None:
    shown_at(run, "by round", " log", "smoothed 0.6", keys=("L", "s"))
    shown = shown_at(run, "smoothed 0.97", keys=("L", "L", "s", "s", "s"))
    assert " log " not in shown
    assert "smoothed" not in shown_at(run, "by round", keys=("s", "s", "s", "s"))


def test_what_does_not_fit_is_scrolled_to(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("slash", "enter")
            await until_shown(pilot, "below")
            await pilot.press("down")
            await until_shown(pilot, "2 above")
            await pilot.press("end")
            await until(pilot, lambda: charts(app).num_hidden[1] == 0)
            assert "below" not in await until_shown(pilot, "above")
            await pilot.press("home", "pagedown")
            await until_shown(pilot, "6 above")
            await pilot.press("pageup")
            await until(pilot, lambda: charts(app).num_hidden[0] == 0)

    drive(look())


def test_runs_are_added_from_a_list_and_taken_away(run: MadeRun) -> None:
    trained_run(run.dir.path.parent, "b-run", rewards=(0.0, 2.0))

    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("p")
            shown = await until_shown(pilot, "Which run over these?", "✓ a-run", "b-run")
            assert "dpo  round 2  reward 2.00" in shown
            await pilot.press(*"no such")
            await until_shown(pilot, "nothing fits")
            await pilot.press("enter", "escape")  # the first does nothing
            await until(pilot, lambda: "Which run" not in screen_text(app))
            await pilot.press("p", *"b-ru", "enter")
            await until_shown(pilot, "● a-run  ◆ b-run", "a-run 1.00", "b-run 2.00")
            await pilot.press("p", *"a-run", "enter")
            await until(pilot, lambda: "a-run" not in screen_text(app))
            await pilot.press("p", *"b-run", "enter")
            await until_told(pilot, "1 to 6 runs can be told apart")

    drive(look())


def test_a_long_list_of_runs_is_moved_through_while_one_types(tmp_path: Path) -> None:
    runs = [trained_run(tmp_path, f"run-{number:02}", rewards=(1.0,)) for number in range(30)]

    async def look() -> None:
        async with opened(screen_of(runs[0]), root=tmp_path) as (app, pilot):
            await until(pilot, lambda: app.first.view is not None)
            await pilot.press("p")
            await until_shown(pilot, "run-29")
            await pilot.press(*"run-1", "down", "pagedown", "up", "enter")  # of 10 the last but one
            await until_shown(pilot, "● run-00  ◆ run-1")

    drive(look())


def test_runs_named_alike_keep_what_differs(tmp_path: Path) -> None:
    names = [f"dpo-smollm2-with-a-long-name-lr{n}e-6-a" for n in (1, 3)]
    runs = [trained_run(tmp_path, name) for name in names]

    async def look() -> None:
        async with opened(screen_of(*runs), root=tmp_path) as (_, pilot):
            shown = await until_shown(pilot, "● dpo-…1e-6-a 1.00", "◆ dpo-…3e-6-a 1.00")
            title = shown.splitlines()[0]
            shorter = "dpo-smollm2-with-…-name-lr{}e-6-a"
            assert title.startswith(f"● {shorter.format(1)}  ◆ {shorter.format(3)}  by round")

    drive(look())


def test_where_a_chart_has_no_room_for_names_they_stand_above_with_their_markers(
    run: MadeRun,
) -> None:
    other = trained_run(run.dir.path.parent, "b-run", rewards=(0.0, 2.0))

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run, other), root=root, size=(40, 24)) as (_, pilot):
            await until_shown(pilot, "b-run 2.00")
            await pilot.press("o", "left_square_bracket")
            shown = await until_shown(pilot, "● a…1  ◆ a…2  ▲ b…1  ■ b…2  by step")
            assert shown.splitlines()[2] == "● 0.25  ◆ 0.50  ▲ 0.25  ■ 0.50"

    drive(look())


def test_more_runs_than_can_be_told_apart_are_left_out(tmp_path: Path) -> None:
    runs = [trained_run(tmp_path, f"run-{number}", rewards=(1.0, 2.0)) for number in range(7)]

    async def look() -> None:
        async with opened(screen_of(*runs), root=tmp_path, size=WIDE) as (_, pilot):
            await until_told(pilot, "6 runs can be told apart; 1 more are left out")
            await until_shown(pilot, "run-0", "run-5")

    drive(look())


def test_values_and_charts_are_written(run: MadeRun, tmp_path: Path) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("w", *str(tmp_path / "out.txt"), "enter")
            await until_shown(pilot, "end it in .csv or .svg")
            await pilot.press(*["backspace"] * 3, *"csv", "enter")
            await until_told(pilot, "written to")
            await pilot.press("w", *str(tmp_path / "out.svg"), "enter")
            await until(pilot, (tmp_path / "out.svg").exists)
            await until(pilot, lambda: not pilot.app.screen.query_one(AskLine).display)
            await pilot.press("w", *str(tmp_path / "out.csv"), "enter")
            await until_shown(pilot, "exists; enter overwrites it")

    drive(look())
    with (tmp_path / "out.csv").open() as file:
        rewards = [row["value"] for row in csv.DictReader(file) if "reward_mean" in row["metric"]]
    assert rewards == ["0.5", "0.25", "1.0"]
    assert ET.parse(tmp_path / "out.svg").getroot().tag.endswith("svg")


def test_a_run_without_any_round_says_so(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)

    async def look() -> None:
        async with opened(screen_of(run), root=tmp_path) as (_, pilot):
            await until_shown(pilot, "nothing is logged yet")
            await pilot.press("w")
            await until_told(pilot, "there is no chart here")
            await pilot.press("left", "plus", "minus", "0", "end", "o", "left_square_bracket", "x")
            await until_shown(pilot, "no round has finished a stage yet")

    drive(look())


def test_a_live_run_grows_while_one_looks(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            await pilot.press("x")
            await until_shown(pilot, "loss  0.75")
            log_step(run, 3, 4, {"loss": 0.5})
            await until_shown(pilot, "loss  0.50")
            run.whole_round(4, reward_mean=8.0)
            await pilot.press("x")
            await until_shown(pilot, "label.reward_mean  8.00")

    drive(look())


def test_a_run_that_is_deleted_is_told_and_the_screen_stays(run: MadeRun) -> None:
    async def look() -> None:
        async with opened(screen_of(run), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            shutil.rmtree(run.dir.path)
            await until_shown(pilot, "no longer there", "label.reward_mean")

    drive(look())


@pytest.mark.parametrize("is_ascii", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(80, 24), (110, 30), WIDE, (20, 5), (1, 1), (300, 12)])
def test_every_size(run: MadeRun, size: tuple[int, int], is_ascii: bool) -> None:
    async def look() -> None:
        root = run.dir.path.parent
        async with opened(screen_of(run), root=root, size=size, is_ascii=is_ascii) as (app, pilot):
            await until(pilot, lambda: app.first.view is not None)
            if not has_room(size):
                await pilot.resize_terminal(100, 30)
                await until(pilot, lambda: app.screen is app.first)
            await pilot.press("left", "o", "s", "down", "slash", "l", "escape")
            await pilot.resize_terminal(100, 30)
            shown = await until_shown(pilot, "loss")
            assert not is_ascii or "".join(shown.splitlines()[:-1]).isascii()
            await pilot.resize_terminal(*size)
            await pilot.pause()

    drive(look())


def test_hostile_names_are_shown_as_escapes(run: MadeRun) -> None:
    log_step(run, 3, 4, {HOSTILE: 1.0})
    shown = shown_at(run, "by step", "3 charts", keys=("x", "slash", "enter"), size=WIDE)
    assert not [bad for bad in FORBIDDEN if bad in shown.encode()]


def test_no_call_blocks_the_event_loop(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    for round in range(1, 7):
        run.whole_round(round)
        for step in range(1, 400):
            values = {f"metric_{n}": (step * 7919 * n * round) % 101 / 10 for n in range(1, 11)}
            log_step(run, round, step, values)

    async def look() -> list[Block]:
        async with opened(screen_of(run), root=tmp_path, size=WIDE) as (_, pilot):
            await until_shown(pilot, "label.reward_mean")
            with Watchdog() as dog:
                await pilot.press("o", "o", "o", "o", "o")
                await until_shown(pilot, "rounds 1 to 6", "metric_10")
                await pilot.press("left", "left", "plus", "s", "L", "end", "home")
                await until_shown(pilot, "smoothed 0.6")
            return dog.blocks

    drive_unblocked(look)

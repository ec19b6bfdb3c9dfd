"""The preview beside the list of runs: what it says of the run at the cursor, and when it reads."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import RunFailed, RunPaused
from halos_backend.store.disk_use import DiskMeter
from halos_backend.store.own_words import OwnWords, write_own_words
from halos_backend.store.reader import run_journal
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import fold
from textual.geometry import Region

from halos_tui.run import reader as run_reader
from halos_tui.run.round_book import RoundBook
from halos_tui.run.view import CostView
from halos_tui.runs import preview
from halos_tui.runs.preview import place_of_preview
from halos_tui.runs.preview_parts import Needs, arrange
from halos_tui.runs.reader import Preview, PreviewReader
from tests.support.app_fixtures import drive, screen_text, until, until_shown
from tests.support.made_run import STARTED_T, MadeRun, write_round_files
from tests.support.shell_fixtures import listed, shell

WIDE = (160, 40)
RUNNING = Needs(num_header_lines=2, num_progress_lines=4, num_cost_lines=2)
FAILED = Needs(num_header_lines=9, num_progress_lines=2, num_notices=0)
UNREADABLE = Needs(2, has_rewards=False, has_says=False, has_events=False)


def paused_run(root: Path, name: str = "alpha", **changes: Any) -> MadeRun:
    """Two rounds of rewards 0.25 and 0.5; 20 tokens sampled in each, 4.5 s of stages."""
    run = MadeRun(root, name, **changes)
    for round, reward in ((1, 0.25), (2, 0.5)):
        run.whole_round(round, reward_mean=reward, reward_stderr=0.01)
        write_round_files(run, round)
    run.say(RunPaused(t=STARTED_T + 3600, reason="its owner paused it"))
    return run


@pytest.mark.parametrize(
    ("size", "wants", "place"),
    [
        ((80, 24), None, None),
        ((80, 24), True, "below"),
        ((139, 39), None, None),
        ((140, 24), None, "beside"),
        ((140, 24), False, None),
        ((80, 40), None, "below"),
        ((200, 60), None, "beside"),
        ((200, 15), True, None),
    ],
)
def test_where_the_preview_is(size: tuple[int, int], wants: bool | None, place: str | None) -> None:
    assert place_of_preview(size, wants=wants) == place


@pytest.mark.parametrize("needs", [RUNNING, FAILED, UNREADABLE], ids=str)
def test_parts_neither_overlap_nor_stick_out(needs: Needs) -> None:
    for width in (1, 20, 38, 56, 72, 80, 120):
        for height in (1, 3, 8, 10, 16, 23, 24, 37, 57, 90):
            room = Region(0, 0, width, height)
            places = arrange(room, needs)
            assert "header" in places
            assert all(room.contains_region(place) and place.area for place in places.values())
            assert not any(
                one.overlaps(other) for one, other in combinations(places.values(), 2)
            ), (width, height)


def test_it_says_how_the_run_stands_what_it_learned_and_what_that_took(tmp_path: Path) -> None:
    run = paused_run(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=WIDE) as (_, pilot):
            await until_shown(
                pilot,
                "its owner paused it  p goes on",
                "reward before training",
                "What is 1 + 1?",
                "two",
                "1h00m at work",
                "40 tokens sampled",
                "on disk",
            )
            write_own_words(run.dir, OwnWords(title="Lower", note="it collapses", tags=("paper",)))
            await until_shown(pilot, "Lower  paper", "it collapses")

    drive(look())


def test_it_says_why_a_run_failed_and_why_one_cannot_be_read(tmp_path: Path) -> None:
    failed = MadeRun(tmp_path, "alpha")
    failed.start_round(1)
    failed.say(RunFailed(t=STARTED_T + 60, reason="no memory left"))
    MadeRun(tmp_path, "broken").dir.events.write_bytes(b"rubbish\n")

    async def look() -> None:
        async with shell(tmp_path, size=WIDE) as (app, pilot):
            await until_shown(pilot, "no memory left", "r tries again")
            await pilot.press("end")
            await until_shown(pilot, "broken  unknown", "events.jsonl, line 1: JSON is malformed")
            assert "reward before training" not in screen_text(app)
        async with shell(tmp_path, size=WIDE, read_only=True) as (app, pilot):
            await until_shown(pilot, "no memory left", "alpha  failed")
            assert "tries again" not in screen_text(app)

    drive(look())


def test_a_small_terminal_has_it_when_a_person_asks(tmp_path: Path) -> None:
    paused_run(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "alpha")
            assert "reward before" not in screen_text(app)
            await pilot.press("v")
            await until_shown(pilot, "reward before training", "p goes on")
            await pilot.press("v")
            await until(pilot, lambda: "reward before" not in screen_text(app))
            await pilot.resize_terminal(80, 15)
            await pilot.press("v")
            assert "reward before" not in screen_text(app)
            assert "needs a terminal of 16 lines" in str(list(app._notifications))
            await pilot.resize_terminal(*WIDE)
            await pilot.press("v")
            await until_shown(pilot, "reward before training")

    drive(look())


def test_a_cursor_that_moves_on_has_only_the_last_run_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        paused_run(tmp_path, name)
    read: list[str] = []
    made = run_reader.RunReader.__init__

    def noted(self: run_reader.RunReader, run_dir: RunDir, **options: bool) -> None:
        read.append(run_dir.name)
        made(self, run_dir, **options)

    monkeypatch.setattr(run_reader.RunReader, "__init__", noted)
    monkeypatch.setattr(preview, "REST_S", 0.8)

    async def look() -> None:
        async with shell(tmp_path, size=WIDE) as (_, pilot):
            await until_shown(pilot, "a  paused  dpo")
            await pilot.press("down", "down", "down", "down")
            await until_shown(pilot, "e  paused  dpo")
            assert read == ["a", "e"]

    drive(look())


def test_a_run_that_takes_long_to_read_is_not_shown_as_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused_run(tmp_path, "a")
    paused_run(tmp_path, "b")
    monkeypatch.setattr(preview, "REST_S", 60.0)

    async def look() -> None:
        async with shell(tmp_path, size=WIDE) as (app, pilot):
            await until_shown(pilot, "a  paused  dpo", "reward before training")
            await pilot.press("down")
            await until(pilot, lambda: "reward before" not in screen_text(app))

    drive(look())


def test_it_follows_a_run_that_goes_on(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, "alpha")
    run.supervised()
    run.whole_round(1, reward_mean=0.25)

    async def look() -> None:
        async with shell(tmp_path, size=WIDE) as (_, pilot):
            await until_shown(pilot, "round 1 of 2", "mean 0.25")
            run.whole_round(2, reward_mean=0.75)
            await until_shown(pilot, "round 2 of 2", "mean 0.75")

    drive(look())


def read_all(reader: PreviewReader) -> Preview:
    """What is known once there is nothing new, the bytes on disk included."""
    last = None
    while (view := reader.read()) is not None or last is None or last.disk_bytes is None:
        last = view or last
    return last


def test_only_the_run_that_was_asked_for_last_is_read(tmp_path: Path) -> None:
    runs = [paused_run(tmp_path, name) for name in ("one", "two")]
    reader = PreviewReader()
    assert reader.read() is None

    for run in runs:
        reader.ask(run.dir)

    found = read_all(reader)
    assert found.run_dir == runs[1].dir
    assert found.disk_bytes == DiskMeter().measure(runs[1].dir.path).total
    assert reader.read() is None
    reader.ask(None)
    assert reader.read() is None


def test_what_a_run_took_is_the_sum_of_its_rounds(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.settings["launch"]["devices"] = [0, 1]
    run.whole_round(1)
    run.start_round(2)
    run.start_stage(2, "sample")
    run.finish_stage(2, "sample", gpu_energy_j=500.0)
    run.start_stage(2, "label")
    book = RoundBook()

    book.update(fold(run_journal(run.dir.events).read()))

    # two GPUs for three stages of 1.5 s, and for one more
    assert book.cost == CostView(40, 0, gpu_s=2 * (4.5 + 1.5), gpu_energy_j=500.0)

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
from rich.cells import cell_len
from textual.geometry import Region

from halos_tui.run import reader as run_reader
from halos_tui.run.round_book import RoundBook
from halos_tui.run.view import CostView
from halos_tui.runs import preview
from halos_tui.runs.comparison import ComparisonPanel, compare_runs
from halos_tui.runs.preview import place_of_preview
from halos_tui.runs.preview_parts import Needs, arrange
from halos_tui.runs.preview_reader import Preview, PreviewReader
from halos_tui.runs.reader import RunRow, RunsReader
from halos_tui.widgets.canvas import text_of
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
    last: Any = None
    while (view := reader.read()) is not None or last is None or last.disk_bytes is None:
        last = view or last
    assert isinstance(last, Preview)
    return last


def test_only_the_run_that_was_asked_for_last_is_read(tmp_path: Path) -> None:
    runs = [paused_run(tmp_path, name) for name in ("one", "two")]
    reader = PreviewReader()
    assert reader.read() is None

    for run in runs:
        reader.ask((RunRow(run.dir, "paused"),))

    found = read_all(reader)
    assert found.run_dir == runs[1].dir
    assert found.disk_bytes == DiskMeter().measure(runs[1].dir.path).total
    assert reader.read() is None
    reader.ask(())
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


def rows_of(root: Path) -> list[RunRow]:
    rows = RunsReader(root).read()
    assert rows is not None
    return sorted(rows, key=lambda row: row.name)


def scored_run(root: Path, name: str, reward: float, stderr: float, **changes: Any) -> MadeRun:
    run = MadeRun(root, name, **changes)
    run.whole_round(1, reward_mean=reward, reward_stderr=stderr)
    return run


def test_runs_are_compared_by_settings_and_last_rewards(tmp_path: Path) -> None:
    MadeRun(tmp_path, "a").dir.events.write_bytes(b"rubbish\n")
    scored_run(tmp_path, "b", 0.5, 0.03)
    scored_run(tmp_path, "c", 0.7, 0.04, loss="kto", feedback="binary")
    scored_run(tmp_path, "d", 0.7, 0.04, num_rounds=1).score_result(reward_mean=0.9, round=2)

    found = compare_runs(rows_of(tmp_path))

    assert [run.of for run in found.runs] == ["", "last round", "last round", "final policy"]
    assert [run.reward and run.reward.mean for run in found.runs] == [None, 0.5, 0.7, 0.9]
    more = found.runs[2].more
    assert found.base == "b"
    # independent: 0.05 is the hypotenuse of 0.03 and 0.04
    assert more is not None and (more.value, more.stderr) == pytest.approx((0.2, 0.05))
    assert more.direction == 1
    assert found.runs[1].more is found.runs[3].more is None
    settings = dict(found.settings)
    assert settings["loop.num_rounds"] == ("", "2", "2", "1")
    assert settings["label.feedback"][1].startswith("pairwise ")
    assert settings["train.loss"][2].startswith("kto {beta=0.1")
    assert "train.lr" not in settings
    assert [(one.name, one.style_index, *one.ys) for one in found.curves] == [
        ("b", 2, 0.5),
        ("c", 3, 0.7),
        ("d", 4, 0.7, 0.9),
    ]


def test_equal_runs_differ_in_no_setting(tmp_path: Path) -> None:
    for name in "ab":
        scored_run(tmp_path, name, 0.5, 0.03)
    assert compare_runs(rows_of(tmp_path)).settings == ()


def test_selected_runs_are_compared_where_the_preview_is(tmp_path: Path) -> None:
    scored_run(tmp_path, "alpha", 0.5, 0.03)
    scored_run(tmp_path, "beta", 0.7, 0.04, num_rounds=1)

    async def look() -> None:
        async with shell(tmp_path, size=WIDE) as (app, pilot):
            await until_shown(pilot, "alpha  lost", "cost")
            await pilot.press("ctrl+a")
            await until_shown(pilot, "2 runs compared", "loop.num_rounds", "reward by round")
            text = screen_text(app)
            assert "0.50 ±0.03   0.70 ±0.04" in text or "0.500 ±0.030  0.700 ±0.040" in text
            assert "more than alpha" in text and "+0.200 ±0.050" in text
            await pilot.press("escape")
            await until_shown(pilot, "alpha  lost", "cost")
            assert "compared" not in screen_text(app)

    drive(look())


@pytest.mark.parametrize("width", [20, 38, 60, 100])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_a_table_of_many_runs_leaves_whole_columns_out(
    tmp_path: Path, width: int, is_ascii: bool
) -> None:
    for number in range(15):
        scored_run(tmp_path, f"a-run-of-some-length-{number}", -0.625, 0.125)
    panel = ComparisonPanel(is_ascii=is_ascii)
    panel.show(compare_runs(rows_of(tmp_path)))
    assert panel.shown is not None

    rows = text_of(panel.painting(width, 12))

    assert all(cell_len(row) == width for row in rows)
    (rewards,) = (row for row in rows if row.startswith("rewar"))
    figure = "-0.62+-0.12" if is_ascii else "-0.62 ±0.12"
    num_columns = rewards.count(figure)
    assert num_columns == max(1, (width - width // 3) // (len(figure) + 2))
    assert rewards.replace(figure, "").split() == rewards[: width // 3].split()
    assert f"no room for {15 - num_columns} runs"[: width - 20] in rows[0]

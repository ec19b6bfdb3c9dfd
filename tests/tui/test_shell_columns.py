"""The columns of the list of runs: which fit, what stands in them, in which order rows come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.own_words import OwnWords
from halos_backend.store.run_dir import RunDir
from halos_backend.store.standard_error import Reward, RewardChange
from rich.cells import cell_len

from halos_tui.runs.columns import COLUMNS, SORTS, fitting_columns, in_order, texts_of
from halos_tui.runs.reader import RunRow
from halos_tui.tracking.rounds import usual_places

TAGGED = OwnWords(title="lower beta", tags=("baseline", "paper"))


def row(name: str, **values: Any) -> RunRow:
    if rewards := values.get("rewards"):
        values.setdefault("last_reward", Reward(len(rewards), rewards[-1]))
    return RunRow(RunDir(Path("/runs") / name), values.pop("status", "running"), **values)


def titles(width: int, *rows: RunRow) -> list[str]:
    return [column.title for column, _ in fitting_columns(rows, width)]


def line(row: RunRow, width: int = 200, *, is_ascii: bool = False) -> str:
    columns = fitting_columns([row], width)
    texts = texts_of(row, columns, is_ascii=is_ascii)
    return " ".join(column.placed(text, cells) for column, text, cells in texts)


def test_a_wide_screen_shows_all_and_a_narrow_one_what_matters() -> None:
    assert titles(200, row("a", words=TAGGED)) == [column.title for column in COLUMNS]
    assert "tags" not in titles(200, row("a"))
    assert "started" not in titles(80)
    assert {"name", "status", "round", "reward", "change"} <= set(titles(60))
    assert titles(20) == ["name", "status"]


@pytest.mark.parametrize("width", range(16, 160, 7))
@pytest.mark.parametrize("name", ["a", "a-name-of-the-usual-length", "x" * 300, "漢字" * 40])
def test_a_row_is_never_wider_than_the_screen(width: int, name: str) -> None:
    assert cell_len(line(row(name), width)) + 2 <= max(width, 16)


def test_what_stands_in_a_row() -> None:
    full = row(
        "a-run",
        round=3,
        num_rounds=9,
        stage="train",
        loss="kto",
        rewards=(0.25, 0.5, 1.0),
        reward_change=RewardChange(0.75, 0.5),
        created_t=1_800_000_000.0,
    )
    words = line(full).split()
    assert words[:9] == ["a-run", "▸", "running", "3/9", "train", "kto", "1", "+0.75", "±0.50"]
    assert words[9] == "▁▃█"
    assert words[10:] and words[10].startswith("2027-01-1")
    assert "> running" in line(full, is_ascii=True)
    assert line(full, is_ascii=True).isascii()


def test_own_words_stand_beside_the_name_and_in_a_column() -> None:
    assert "a-run  lower beta ▸ running" in line(row("a-run", words=TAGGED))
    assert "baseline paper" in line(row("a-run", words=TAGGED), 140)
    assert "\x1b" not in line(row("a", words=OwnWords(title="\x1b[31m", tags=("\x1b",))))


def test_rewards_of_runs_share_their_places_unless_they_are_quite_unlike() -> None:
    # as their errors are, they have 2, 3 and 0 places, and a share has one: 2 is in the middle
    rewards = [
        Reward(3, -0.9386, 0.158),
        Reward(3, 0.7042, 0.0991),
        Reward(3, 250.3, 12.0),
        Reward(3, 0.375, 0.041, is_share=True),
    ]
    changes = [RewardChange(0.5, 0.22), RewardChange(0.25, 0.05), None, None]
    rows = [
        row(str(n), last_reward=reward, reward_change=change)
        for n, (reward, change) in enumerate(zip(rewards, changes, strict=True))
    ]
    places = usual_places(rewards)

    found = [
        {column.title: text for column, text, _ in texts_of(one, columns, places=places)}
        for one in rows
        for columns in [fitting_columns(rows, 200)]
    ]

    assert [texts["reward"] for texts in found] == ["-0.94", "0.70", "250", "37.5%"]
    assert [texts["change"] for texts in found] == ["+0.50 ±0.22", "+0.25 ±0.05", "-", "-"]


def test_a_run_that_cannot_start_its_stage_waits() -> None:
    assert " waiting " in line(row("a", problem="a GPU is taken"))
    assert " waiting " not in line(row("a", status="paused", problem="its owner paused it"))


def test_one_that_cannot_be_read_says_why_where_its_values_would_be() -> None:
    unreadable = row("broken", status="unreadable", problem="line 3: \x1b[31mred")
    assert line(unreadable, 70).startswith("broken   ! unreadable line 3: \\x1b[31mred")
    assert "\x1b" not in line(unreadable, 20)


def names(rows: tuple[RunRow, ...]) -> str:
    return " ".join(row.name for row in rows)


def test_the_best_stand_first_and_what_has_no_value_last() -> None:
    rows = [row("a", rewards=(0.1,)), row("b"), row("c", rewards=(0.3,)), row("d", rewards=(0.2,))]

    assert names(in_order(rows, "reward", is_reversed=False)) == "c d a b"
    assert names(in_order(rows, "reward", is_reversed=True)) == "a d c b"


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_every_order_keeps_every_row(sort: str, is_reversed: bool) -> None:
    rows = [
        row("a", created_t=5.0, round=2, loss="dpo", rewards=(1.0, 2.0)),
        row("B", status="unreadable", problem="x"),
        row("c", created_t=9.0, round=2, loss="kto", status="paused"),
    ]
    ordered = in_order(rows, sort, is_reversed=is_reversed)
    assert sorted(row.name for row in ordered) == ["B", "a", "c"]


def test_names_are_sorted_as_a_person_would() -> None:
    assert names(in_order([row("b"), row("A"), row("C")], "name", is_reversed=False)) == "A b C"
    rows = [row("old", created_t=1.0), row("new", created_t=2.0)]
    assert names(in_order(rows, "started", is_reversed=False)) == "new old"

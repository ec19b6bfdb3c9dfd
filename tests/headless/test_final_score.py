"""What a run's result is worth, wherever it is shown; the numbers are those of `MadeRun`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.headless.conftest import Halos
from tests.support.made_run import MadeRun, write_prompts, write_round_files

SCORE = "final policy: reward 0.750 ±0.020 on 2 held-out prompts; round 1 began at 0.25 ±0.10"


@pytest.fixture
def scored(runs: Path) -> MadeRun:
    run = MadeRun(runs)
    write_prompts(run)
    run.whole_round(1, reward_mean=0.25)
    run.whole_round(2, reward_mean=0.5)
    run.score_result()
    for round in (1, 2, 3):
        write_round_files(run, round, "pairwise")
    run.complete()
    return run


def test_the_last_words_name_the_reward_of_the_result(halos: Halos, scored: MadeRun) -> None:
    shown = halos("watch", scored.dir.name)
    assert SCORE in shown.stderr.splitlines()
    assert f"result: {scored.dir.final}" in shown.stderr
    lines = [line.partition("  ")[2] for line in shown.stdout.splitlines()]
    assert "scoring the final policy on 2 held-out prompts" in lines
    assert SCORE in lines
    assert any(line.startswith("final policy label: reward 0.75") for line in lines)


def test_a_rounds_reward_is_said_to_be_of_the_policy_before_it(
    halos: Halos, scored: MadeRun
) -> None:
    shown = halos("watch", scored.dir.name).stdout
    assert (
        "round 1: finished, checkpoint rounds/0001/train/attempt_1/checkpoint; the policy before"
        " it had reward 0.25"
    ) in shown
    assert "(reward: of the policy before the round's training)" in halos("status", "a-run").stdout


def test_status_has_the_score_below_the_rounds(halos: Halos, scored: MadeRun) -> None:
    lines = halos("status", scored.dir.name).stdout.splitlines()
    assert "round 2 of 2" in lines[1]
    assert SCORE in lines
    row = next(line for line in lines if line.split()[:1] == ["final"])
    assert row.split()[:4] == ["final", "2", "0.75", "-"]
    said = json.loads(halos("status", scored.dir.name, "--json").stdout)
    assert said["num_rounds"] == 2
    assert said["final_score"] == {
        "reward_mean": 0.75, "reward_stderr": 0.02, "num_prompts": 2, "held_out": True,
        "unscored": None,
    }  # fmt: skip


def test_the_list_has_the_reward_of_the_result_and_counts_no_round_for_it(
    halos: Halos, scored: MadeRun
) -> None:
    row = json.loads(halos("list", "--json").stdout)
    assert (row["round"], row["reward_mean"], row["is_final_reward"]) == (2, 0.75, True)


def test_a_result_without_a_score_says_why_and_how_to_get_one(halos: Halos, runs: Path) -> None:
    run = MadeRun(runs)
    run.whole_round(1)
    run.score_result(round=2, unscored="the judge broke")
    run.complete()
    shown = halos("watch", "a-run")
    assert shown.returncode == 0
    assert "once mended, to score it: halos-tui retry a-run" in shown.stderr
    assert "the final policy has no score: the judge broke" in shown.stdout
    status = halos("status", "a-run").stdout
    assert "the final policy has no score: the judge broke" in status


def test_what_nothing_trains_on_is_exported_as_csv_alone(
    halos: Halos, scored: MadeRun, tmp_path: Path
) -> None:
    written = halos("export", "a-run", "--to", "halos").stdout.split()
    assert not [name for name in written if "R3" in name]
    assert not [
        name for name in halos("export", "a-run", "--to", "trl").stdout.split() if "R3" in name
    ]
    halos("export", "a-run", "--to", "csv")
    table = (tmp_path / "a-run-csv" / "rounds.csv").read_text().splitlines()
    assert table[0].split(",")[:2] == ["round", "closing"]
    assert table[3].split(",")[:2] == ["3", "held_out"]


def test_completions_say_whose_they_are(halos: Halos, scored: MadeRun) -> None:
    assert halos("completions", "a-run").stderr.startswith("final policy: ")
    first = halos("completions", "a-run", "--round", "1").stderr
    assert first.startswith("round 1, by the policy before its training: ")

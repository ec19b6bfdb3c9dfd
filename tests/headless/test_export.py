"""`export`: rows that HALOs' and TRL's loaders read, and tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.own_words import toggle_marks, write_note

from tests.headless.conftest import Halos
from tests.support.made_run import MadeRun, write_prompts, write_round_files

ALPHA = [{"role": "user", "content": "What is 1 + 1?"}]
BETA = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}]


def _says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _made(runs: Path, feedback: str, loss: str, *, num_rounds: int = 2) -> MadeRun:
    run = MadeRun(runs, feedback=feedback, loss=loss)
    write_prompts(run)
    for round in range(1, num_rounds + 1):
        run.whole_round(round)
        write_round_files(run, round, feedback)
    run.complete()
    return run


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_halos_samples_are_one_array_of_rows_a_round(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    _made(runs, "pairwise", "dpo")
    exported = halos("export", "a-run", "--to", "halos")
    assert exported.returncode == 0, exported.stderr
    written = [
        "R1_samples.json", "R1_feedback.json", "R2_samples.json", "R2_feedback.json",
    ]  # fmt: skip
    assert exported.stdout.splitlines() == [f"a-run-halos/{name}" for name in written]
    assert sorted(written) == sorted(p.name for p in (tmp_path / "a-run-halos").iterdir())
    samples = _read(tmp_path / "a-run-halos/R2_samples.json")
    assert [(row["prompt_id"], row["sample_id"], row["output"]) for row in samples] == [
        (1, 0, "hello"),  # beta is the run's second prompt
        (1, 1, "hello there you"),
        (0, 0, "two"),
        (0, 1, "three or so"),
    ]
    assert [row["prompt"] for row in samples] == [BETA, BETA, ALPHA, ALPHA]
    assert {row["type"] for row in samples} == {"sample"}
    assert {row["dataset"] for row in samples} == {"prompts_train"}
    assert {row["split"] for row in samples} == {"train"}


def test_halos_pairs_name_the_better_one_by_label(halos: Halos, runs: Path, tmp_path: Path) -> None:
    _made(runs, "pairwise", "dpo", num_rounds=12)
    assert halos("export", "a-run", "--to", "halos", "--output", "out").returncode == 0
    labels = []
    for round in range(1, 13):
        (pair,) = _read(tmp_path / f"out/R{round}_feedback.json")
        better, worse = ("A", "B") if pair["label"] == 1 else ("B", "A")
        assert pair[f"output_{better}"] == _says("hello there you")
        assert pair[f"output_{worse}"] == _says("hello")
        assert (pair[f"reward_{better}"], pair[f"reward_{worse}"]) == (0.75, 0.25)
        assert pair["reward_difference"] == 0.5
        assert (pair["prompt_id"], pair["prompt"], pair["type"]) == (1, BETA, "pairwise_feedback")
        labels.append(pair["label"])
    assert set(labels) == {0, 1}  # neither side is always the better one
    assert halos("export", "a-run", "--to", "halos", "--output", "again").returncode == 0
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_halos_binary_feedback_has_a_label_a_completion(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    _made(runs, "binary", "kto", num_rounds=1)
    halos("export", "a-run", "--to", "halos")
    about = {"prompt_id": 1, "prompt": BETA, "type": "binary_feedback"}
    assert _read(tmp_path / "a-run-halos/R1_feedback.json") == [
        {**about, "output": _says("hello"), "label": 0, "reward": 0.25},
        {**about, "output": _says("hello there you"), "label": 1, "reward": 0.75},
    ]


def test_halos_scalar_feedback_has_a_reward_a_completion(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    _made(runs, "scalar", "grpo", num_rounds=1)
    halos("export", "a-run", "--to", "halos")
    rows = _read(tmp_path / "a-run-halos/R1_feedback.json")
    assert [(row["prompt_id"], row["output"], row["reward"]) for row in rows] == [
        (1, _says("hello"), 0.25),
        (1, _says("hello there you"), 0.75),
        (0, _says("two"), 1.0),
    ]
    assert {row["type"] for row in rows} == {"scalar_feedback"}


def test_trl_preference_and_prompt_only_rows_are_conversational(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    _made(runs, "pairwise", "dpo")
    exported = halos("export", "a-run", "--to", "trl", "--round", "2")
    written = ["a-run-trl/R2_prompts.jsonl", "a-run-trl/R2_preference.jsonl"]
    assert exported.stdout.splitlines() == written
    prompts = (tmp_path / written[0]).read_text().splitlines()
    assert [json.loads(line) for line in prompts] == [{"prompt": BETA}, {"prompt": ALPHA}]
    (pair,) = (tmp_path / written[1]).read_text().splitlines()
    assert json.loads(pair) == {
        "prompt": BETA,
        "chosen": _says("hello there you"),
        "rejected": _says("hello"),
    }


def test_trl_unpaired_rows_have_a_boolean_label(halos: Halos, runs: Path, tmp_path: Path) -> None:
    _made(runs, "binary", "kto", num_rounds=1)
    halos("export", "a-run", "--to", "trl")
    lines = (tmp_path / "a-run-trl/R1_unpaired.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"prompt": BETA, "completion": _says("hello"), "label": False},
        {"prompt": BETA, "completion": _says("hello there you"), "label": True},
    ]


def test_trl_has_no_row_for_groups_and_the_export_says_so(halos: Halos, runs: Path) -> None:
    _made(runs, "scalar", "grpo", num_rounds=1)
    exported = halos("export", "a-run", "--to", "trl")
    assert exported.stdout == "a-run-trl/R1_prompts.jsonl\n"
    assert "prompts only" in exported.stderr


def test_csv_has_a_row_a_completion_and_a_row_a_round(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    run = _made(runs, "pairwise", "dpo")
    toggle_marks(run.dir, [(1, "alpha", "c0")])
    write_note(run.dir, [(2, "beta", "c1")], "polite, too")
    halos("export", "a-run", "--to", "csv")
    with (tmp_path / "a-run-csv/completions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    kept = ("round", "prompt_id", "completion_id", "reward", "unscored", "mark", "finish_reason")
    assert [tuple(row[name] for name in kept) for row in rows[:4]] == [
        ("1", "beta", "c0", "0.25", "", "rejected", "stop"),
        ("1", "beta", "c1", "0.75", "", "chosen", "stop"),
        ("1", "alpha", "c0", "1.0", "", "", "stop"),
        ("1", "alpha", "c1", "", "the judge said no", "", "length"),
    ]
    assert [(row["marked"], row["note"]) for row in rows[1:4]] == [("0", ""), ("1", ""), ("0", "")]
    assert (rows[5]["marked"], rows[5]["note"]) == ("0", "polite, too")
    assert rows[1]["num_tokens"] == "3"
    assert rows[2]["prompt"] == "What is 1 + 1?"
    assert json.loads(rows[0]["prompt"]) == BETA
    with (tmp_path / "a-run-csv/rounds.csv").open(newline="") as file:
        rounds = list(csv.DictReader(file))
    assert [row["round"] for row in rounds] == ["1", "2"]
    assert rounds[0]["label_reward_mean"] == "0.5"
    assert rounds[0]["train_loss_last"] == "0.5"
    assert "label_reward_histogram" not in rounds[0]


def test_a_round_that_is_only_sampled_exports_its_samples(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    run = _made(runs, "pairwise", "dpo", num_rounds=1)
    run.start_round(2)
    run.start_stage(2, "sample")
    run.finish_stage(2, "sample")
    run.dir.attempt(2, "sample", 1).completions.write_bytes(
        run.dir.attempt(1, "sample", 1).completions.read_bytes()
    )
    exported = halos("export", "a-run", "--to", "halos", "--round", "2")
    assert exported.stdout.splitlines() == ["a-run-halos/R2_samples.json"]
    assert len(_read(tmp_path / "a-run-halos/R2_samples.json")) == 4


@pytest.mark.parametrize("to", ["halos", "trl", "csv"])
def test_an_export_overwrites_nothing(halos: Halos, runs: Path, tmp_path: Path, to: str) -> None:
    _made(runs, "pairwise", "dpo", num_rounds=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused = halos("export", "a-run", "--to", to, "--output", "full")
    assert refused.returncode == 2
    assert "full" in refused.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_run_without_samples_exports_nothing_and_says_so(
    halos: Halos, runs: Path, tmp_path: Path
) -> None:
    MadeRun(runs).start_round(1)
    refused = halos("export", "a-run", "--to", "csv")
    assert refused.returncode == 2
    assert "no round with finished samples" in refused.stderr
    assert not (tmp_path / "a-run-csv").exists()

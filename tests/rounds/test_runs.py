"""Whole runs through the command line: real processes, a tiny random policy, real training."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.place import Place


def test_a_run_ends_with_a_plain_model_that_training_moved(whole: Place) -> None:
    final = AutoModelForCausalLM.from_pretrained(whole.runs / "whole" / "final")
    initial = AutoModelForCausalLM.from_pretrained(whole.path / "policy")
    pairs = zip(final.parameters(), initial.parameters(), strict=True)
    assert all(torch.isfinite(ours).all() for ours in final.parameters())
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)

    kinds = Counter(event["type"] for event in whole.events("whole"))
    assert kinds["RoundFinished"] == 2
    assert kinds["StageFinished"] == 6
    assert kinds["RunCompleted"] == 1


def test_no_prompt_is_used_twice_before_all_are_used(place: Place) -> None:
    config = place.config(loop__num_rounds=3, loop__prompts_per_round=8)
    assert place.halos("run", str(config), "--no-ui", "--name", "all").code == 0
    used = []
    for path in sorted((place.runs / "all").glob("rounds/*/sample/attempt_1/completions.jsonl")):
        used.append([json.loads(line)["prompt_id"] for line in path.read_text().splitlines()])
    assert [len(ids) for ids in used] == [8, 8, 4]
    assert sorted(int(i) for ids in used for i in ids) == list(range(20))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(whole: Place, plain_place: Place) -> None:
    """Also where every program begins by itself, with another seed of Python's for its hashes."""
    again = plain_place.halos("run", str(plain_place.config()), "--no-ui", "--name", "again")
    assert again.code == 0, again.stderr
    assert plain_place.weights("again") == whole.weights("whole")


def test_another_seed_gives_other_weights(whole: Place, place: Place) -> None:
    other = place.halos("run", str(place.config(loop__seed=8)), "--no-ui", "--name", "other")
    assert other.code == 0, other.stderr
    assert place.weights("other") != whole.weights("whole")


def test_a_round_without_pairs_says_so_and_the_run_goes_on(place: Place) -> None:
    config = place.config(label__judge__function=f"{place.path}/judge.py:constant")
    finished = place.halos("run", str(config), "--no-ui", "--name", "flat")
    assert finished.code == 0, finished.stderr
    rounds = [event for event in place.events("flat") if event["type"] == "RoundFinished"]
    assert len(rounds) == 2
    assert all("no feedback is left" in event["untrained"] for event in rounds)
    assert "no feedback is left" in finished.stdout


def test_rows_that_a_judge_cannot_score_are_counted_and_left_out_and_many_pause_the_run(
    place: Place,
) -> None:
    config = place.config(label__judge__function=f"{place.path}/judge.py:moody", loop__num_rounds=1)
    paused = place.halos("run", str(config), "--no-ui", "--name", "moody")
    assert paused.code == 6, paused.stderr
    assert "above 0.25 (guard unscored)" in paused.stdout
    finished = place.halos("resume", "moody", "--no-ui")
    assert finished.code == 0, finished.stderr
    run = place.runs / "moody"
    scored = unscored = 0
    for line in (run / "rounds/0001/label/attempt_1/scores.jsonl").read_text().splitlines():
        for completion in json.loads(line)["completions"]:
            is_scored = len(completion["text"]) % 4 == 3
            assert ("reward" in completion) == is_scored
            assert ("unscored" in completion) != is_scored
            scored += is_scored
            unscored += not is_scored
    label = next(
        event["summary"]
        for event in place.events("moody")
        if event["type"] == "StageFinished" and event["stage"] == "label"
    )
    assert label["num_unscored"] == unscored
    assert scored + unscored == label["num_completions"] == 24


def test_a_judge_that_always_raises_fails_the_run_with_its_message(place: Place) -> None:
    config = place.config(label__judge__function=f"{place.path}/judge.py:raises")
    finished = place.halos("run", str(config), "--no-ui", "--name", "broken")
    assert finished.code == 1
    assert "the judge is broken" in finished.stderr + finished.stdout
    assert "halos-tui resume broken" in finished.stderr
    assert finished.stderr.count("Traceback") == 1  # the judge's own, from the end of the log
    assert 'judge.py", line' in finished.stderr
    assert "label_round" not in finished.stderr

    (place.path / "judge.py").write_text(
        "def raises(prompt, completion, row):\n    return float(len(completion))\n"
    )
    assert place.halos("resume", "broken", "--no-ui").code == 0
    samples = [e for e in place.events("broken") if e["type"] == "StageStarted"]
    first_round = [(e["stage"], e["attempt"]) for e in samples if e["round"] == 1]
    assert first_round == [("sample", 1), ("label", 1), ("label", 2), ("train", 1)]


@pytest.mark.slow
def test_two_processes_label_and_train_a_run(place: Place, one: Place) -> None:
    config = place.config(launch__num_processes=2, loop__num_rounds=1)
    finished = place.halos("run", str(config), "--no-ui", "--name", "two")
    assert finished.code == 0, finished.stderr
    final = [
        AutoModelForCausalLM.from_pretrained(runs / "final")
        for runs in (place.runs / "two", one.runs / "one")
    ]
    initial = AutoModelForCausalLM.from_pretrained(place.path / "policy")
    updates = [
        torch.cat(
            [(a - b).flatten() for a, b in zip(m.parameters(), initial.parameters(), strict=True)]
        )
        for m in final
    ]
    assert (updates[0] - updates[1]).norm() < 1e-3 * updates[1].norm()

"""Whole runs that score with vLLM in one environment and sample and train in another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign import GIVES_PROBABILITIES, changed_python
from tests.support.label_fixtures import save_classifier
from tests.support.place import Place
from tests.vllm.conftest import make_place

pytestmark = pytest.mark.vllm


def config(place: Place, python: str, **changes: Any) -> str:
    """A run file whose judge is to score with vLLM."""
    made = place.config(
        label__python=python,
        label__judge__function=None,
        label__judge__kind="reward_model",
        label__judge__path=str(place.path / "judge"),
        label__judge__engine="vllm",
        **changes,
    )
    return str(made)


def run(place: Place, python: str, name: str, **changes: Any) -> None:
    """To its good end."""
    done = place.halos("run", config(place, python, **changes), "--no-ui", "--name", name)
    assert done.code == 0, done.stderr


def engines(place: Place, name: str) -> list[str]:
    """What scored, round by round."""
    return [
        event["summary"]["engine"].split()[0]
        for event in place.events(name)
        if event["type"] == "StageFinished" and event["stage"] == "label"
    ]


def num_loads(place: Place, name: str) -> int:
    """How often a label stage loaded an engine of vLLM."""
    journals = (place.runs / name).glob("rounds/*/label/attempt_*/events.jsonl")
    phases = [
        event.get("phase", "")
        for journal in journals
        for event in map(json.loads, journal.read_text().splitlines())
    ]
    return sum(phase.startswith("loading reward model (vllm") for phase in phases)


def scores(place: Place, name: str) -> list[bytes]:
    paths = sorted((place.runs / name).glob("rounds/*/label/attempt_*/scores.jsonl"))
    return [path.read_bytes() for path in paths]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory, vllm_python: str) -> Place:
    """A place with the finished run `cold`: two rounds, an engine of its own for each."""
    place = make_place(tmp_path_factory.mktemp("cold"))
    save_classifier(place.path / "judge", hidden_size=64)
    run(place, vllm_python, "cold", launch__warm_workers=False)
    return place


def test_a_run_is_judged_elsewhere(cold: Place) -> None:
    assert engines(cold, "cold") == ["vllm", "vllm"]
    assert num_loads(cold, "cold") == 2
    rewards = [
        completion["reward"]
        for content in scores(cold, "cold")
        for group in map(json.loads, content.splitlines())
        for completion in group["completions"]
    ]
    assert len(rewards) == 48
    assert len(set(rewards)) > 5


def test_a_warm_engine_is_loaded_once_and_gives_the_same(cold: Place, vllm_python: str) -> None:
    run(cold, vllm_python, "warm", launch__warm_workers=True)
    assert engines(cold, "warm") == ["vllm", "vllm"]
    assert num_loads(cold, "warm") == 1
    assert scores(cold, "warm") == scores(cold, "cold")
    assert cold.weights("warm") == cold.weights("cold")


def test_a_worker_tries_an_engine_that_gives_other_rewards_once(
    cold: Place, vllm_python: str, tmp_path: Path
) -> None:
    python = changed_python(tmp_path / "changed", vllm_python, GIVES_PROBABILITIES)
    run(cold, python, "wrong", launch__warm_workers=True)
    assert engines(cold, "wrong") == ["transformers", "transformers"]
    assert num_loads(cold, "wrong") == 1
    journals = sorted((cold.runs / "wrong").glob("rounds/*/label/attempt_1/events.jsonl"))
    assert [journal.read_text().count('"Warned"') for journal in journals] == [1, 1]


def test_what_is_scored_while_it_is_sampled_is_the_same(cold: Place, vllm_python: str) -> None:
    run(cold, vllm_python, "overlapped", loop__overlap=True)
    assert engines(cold, "overlapped") == ["vllm", "vllm"]
    assert scores(cold, "overlapped") == scores(cold, "cold")


def test_several_processes_train_and_one_scores(cold: Place, vllm_python: str) -> None:
    changes = {"launch__num_processes": 2, "loop__num_rounds": 1}
    run(cold, vllm_python, "several", **changes)
    assert engines(cold, "several") == ["vllm"]
    assert scores(cold, "several") == scores(cold, "cold")[:1]


def test_the_doctor_says_what_scores_and_the_start_refuses_what_vllm_does_not_have(
    cold: Place, vllm_python: str
) -> None:
    path = config(cold, vllm_python)
    examined = cold.halos("doctor", path)
    lines = [line for line in examined.stdout.splitlines() if line.split()[1:2] == ["judge"]]
    assert {line.split()[0] for line in lines} == {"ok"}
    assert any(f"in {vllm_python}" in line for line in lines)
    wrong = ["--set", "label.judge.vllm.arguments.max_num_seq=4"]
    refused = cold.halos("run", path, "--no-ui", *wrong, "--name", "never")
    assert refused.code == 2
    assert "label.judge.vllm.arguments.max_num_seq" in refused.stderr
    assert "did you mean 'max_num_seqs'" in refused.stderr
    assert not (cold.runs / "never").exists()


def test_a_model_that_vllm_does_not_have_is_told_at_the_start(
    cold: Place, vllm_python: str
) -> None:
    save_classifier(cold.path / "small_heads")
    path = config(cold, vllm_python, loop__num_rounds=1)
    other = ["--set", f"label.judge.path={cold.path / 'small_heads'}"]
    done = cold.halos("run", path, "--no-ui", *other, "--name", "small")
    assert done.code == 0, done.stderr
    assert "warning: judge: the reward model will be scored with transformers" in done.stderr
    assert "no kernel for heads of 16" in done.stderr
    assert engines(cold, "small") == ["transformers"]

"""Runs of adapters, whose engine keeps the initial policy and is handed nothing but adapters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.foreign import changed_python
from tests.support.place import Place
from tests.vllm.conftest import make_place

pytestmark = pytest.mark.vllm

READS_NO_WEIGHTS = """
from halos_backend.stages.sample.vllm_reload import ReloadingWorker
def refuse(self, weights_path):
    raise AssertionError(weights_path)
ReloadingWorker.halos_reload = refuse
"""
TAKES_NO_ADAPTERS = """
import dataclasses
from halos_backend.stages.sample import choose_weights as weights
choose = weights.choose_weights
weights.choose_weights = lambda *given: dataclasses.replace(choose(*given), adapter=None)
"""


def run(place: Place, name: str, python: str, **settings: Any) -> None:
    """Three rounds to their good end."""
    done = place.halos("run", config(place, python, **settings), "--no-ui", "--name", name)
    assert done.code == 0, done.stderr


def config(place: Place, python: str, **settings: Any) -> str:
    given = {
        "sample__python": python,
        "loop__num_rounds": 3,
        "loop__prompts_per_round": 4,
        "train__lr": 2e-2,
        "train__lora": {"r": 4, "alpha": 8.0},
        **settings,
    }
    lora = given.pop("train__lora")
    given |= {f"train.lora__{name}": value for name, value in lora.items()}
    return str(place.config(**given))


def canaries(place: Place, name: str) -> list[tuple[float, float]]:
    """Mean difference and its limit, of each round."""
    return [
        (event["summary"]["canary_diff_mean"], event["summary"]["canary_diff_limit"])
        for event in place.events(name)
        if event["type"] == "StageFinished" and event["stage"] == "train"
    ]


def completions(place: Place, name: str) -> list[bytes]:
    found = sorted((place.runs / name / "rounds").glob("*/sample/attempt_*/completions.jsonl"))
    return [path.read_bytes() for path in found]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory, vllm_python: str) -> Place:
    """A place with the finished run `cold`: three rounds, an engine of its own for each."""
    place = make_place(tmp_path_factory.mktemp("cold"))
    run(place, "cold", vllm_python, launch__warm_workers=False)
    return place


def test_the_adapted_policy_samples_without_its_checkpoint_being_read(cold: Place) -> None:
    found = canaries(cold, "cold")
    assert len(found) == 3
    assert all(difference < limit == 1e-4 for difference, limit in found)
    assert len(set(completions(cold, "cold"))) == 3
    logs = sorted((cold.runs / "cold" / "rounds").glob("*/sample/attempt_1/stdout.log"))
    assert len(logs) == 3
    for log in logs:
        assert f"model='{cold.path}/policy'" in log.read_text()
        assert "/train/attempt_1/checkpoint" not in log.read_text()


def test_a_warm_engine_takes_adapter_after_adapter_and_makes_the_same(
    cold: Place, vllm_python: str
) -> None:
    python = changed_python(cold.path / "python", vllm_python, READS_NO_WEIGHTS)
    run(cold, "warm", python, launch__warm_workers=True)
    assert completions(cold, "warm") == completions(cold, "cold")
    assert cold.weights("warm") == cold.weights("cold")


def test_two_engines_take_them_too(cold: Place, vllm_python: str) -> None:
    replicas = {"sample.vllm__replicas": 2, "launch__warm_workers": True}
    run(cold, "both", vllm_python, **replicas, loop__num_rounds=2)
    assert all(difference < limit for difference, limit in canaries(cold, "both"))


def test_an_engine_that_keeps_its_adapters_fails_the_round(place: Place, vllm_python: str) -> None:
    python = changed_python(place.path / "python", vllm_python, TAKES_NO_ADAPTERS)
    done = place.halos(
        "run", config(place, python, launch__warm_workers=True), "--no-ui", "--name", "stale"
    )
    assert done.code == 1
    assert "the policy that sampled round 2 is not the one to be trained" in done.stderr
    samplings = [
        (event["round"], event["attempt"])
        for event in place.events("stale")
        if event["type"] == "StageStarted" and event["stage"] == "sample"
    ]
    assert samplings == [(1, 1), (2, 1), (2, 2)], "another engine was given a chance"


def test_merged_weights_are_sampled_where_a_person_wants_them(
    place: Place, vllm_python: str
) -> None:
    arguments = {"sample.vllm.arguments__enable_lora": False}
    run(place, "merged", vllm_python, **arguments, loop__num_rounds=2)
    assert all(difference < limit for difference, limit in canaries(place, "merged"))

"""Stages that stay between rounds make the same run as stages that start anew, bit for bit."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.label_fixtures import save_classifier
from tests.support.place import Place

CASES: dict[str, dict[str, Any]] = {
    "low dtype, moving reference": {
        "policy__dtype": "bfloat16",
        "train__reference": "previous",
    },
    "adapters and binary feedback": {
        "train__lora": {"r": 2},
        "train__loss": {"kind": "kto"},
        "label__feedback": {"kind": "binary"},
    },
    "groups and a following reference": {
        "train__loss": {"kind": "grpo", "humanline": {"sync_every": 2}},
        "train__reference": "previous",
        "train__batch_size": 4,
        "label__feedback": {"kind": "scalar"},
    },
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if number else ())
        for number, case in enumerate(CASES)
    ],
)
def test_warm_and_cold_runs_give_the_same_bits(place: Place, case: str) -> None:
    changes = {"loop__num_rounds": 3, "loop__prompts_per_round": 4, **CASES[case]}
    for name, is_warm in (("cold", False), ("warm", "auto")):
        config = place.config(launch__warm_workers=is_warm, **flat(changes))
        done = place.halos("run", str(config), "--no-ui", "--name", name)
        assert done.code == 0, done.stderr
    assert processes(place, "cold") == 9
    assert processes(place, "warm") == 3
    assert_started_while_sampling(place, "warm")
    assert place.weights("warm") == place.weights("cold")
    for round in (1, 2, 3):
        for outcome in ("sample/attempt_1/completions.jsonl", "label/attempt_1/scores.jsonl"):
            relative = f"rounds/{round:04d}/{outcome}"
            warm, cold = (place.runs / run / relative for run in ("warm", "cold"))
            assert warm.read_bytes() == cold.read_bytes()


@pytest.mark.slow
def test_a_reward_model_stays_and_scores_the_same(place: Place) -> None:
    """Its padding token is chosen anew for each round's texts, as by a model that was just read."""
    judge = save_classifier(place.path / "judge", pad_token_id=None)
    for name, is_warm in (("cold", False), ("warm", True)):
        config = place.config(
            launch__warm_workers=is_warm,
            label__judge__function=None,
            label__judge__kind="reward_model",
            label__judge__path=str(judge),
        )
        done = place.halos("run", str(config), "--no-ui", "--name", name)
        assert done.code == 0, done.stderr
    assert place.weights("warm") == place.weights("cold")


def test_settings_that_change_between_warm_rounds_take_effect(place: Place) -> None:
    config = place.config(
        loop__num_rounds=2,
        loop__pause_after_each_round=False,
        label__judge__function=f"{place.path}/judge.py:vowels_slowly",
    )
    assert place.halos("run", str(config), "--no-ui", "--name", "run", "--detach").code == 0
    changed = place.halos("set", "run", "train.lr=5e-4", "--from-round", "2")
    assert changed.code == 0, changed.stderr
    assert place.halos("watch", "run").code == 0
    path = place.runs / "run/rounds/0002/train/attempt_1/events.jsonl"
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    rates = {e["metrics"]["lr"] for e in steps if e["type"] == "MetricsLogged" and e["step"]}
    assert max(rates) <= 5e-4


def assert_started_while_sampling(place: Place, run: str) -> None:
    """The programs of label and train, before there was work for them."""
    events = place.events(run)
    first = {e["stage"]: e for e in reversed(events) if e["type"] == "StageStarted"}
    sampled = next(e["t"] for e in events if e["type"] == "StageFinished")
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for stage in ("label", "train"):
        assert boot + first[stage]["process"]["start_time"] < sampled < first[stage]["t"]


def processes(place: Place, run: str) -> int:
    """How many processes executed the run's stages."""
    started = [e for e in place.events(run) if e["type"] == "StageStarted"]
    return len({e["process"]["pid"] for e in started})


def flat(changes: dict[str, Any]) -> dict[str, Any]:
    """Tables as single settings, as a run file has them."""
    made: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict):
            made |= flat({f"{key}__{name}": entry for name, entry in value.items()})
        else:
            made[key] = value
    return made

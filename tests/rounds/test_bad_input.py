"""What a person gets wrong: one clear message, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.support.place import Place

API = {
    "label__judge__function": None,
    "label__judge__kind": "api",
    "label__judge__model": "a-judge",
    "label__judge__base_url": "http://127.0.0.1:9/v1",
}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "policy is not there": (
        {"policy__path": "/nonexistent/model"}, "/nonexistent/model"),
    "prompts file is not there": (
        {"prompts__path": "missing.jsonl"}, "missing.jsonl"),
    "no such column": ({"prompts__prompt": "question"}, "question"),
    "unknown loss": ({"train__loss__kind": "dpoo"}, "dpo"),
    "loss does not fit the feedback": ({"train__loss__kind": "grpo"}, "scalar"),
    "threshold fits no such feedback": ({"label__feedback__threshold": "median"}, "threshold"),
    "unknown key": ({"loop__prompts_per_rounds": 3}, "prompts_per_round"),
    "completion longer than the context": ({"sample__max_new_tokens": 64}, "max_new_tokens"),
    "judge file is not there": (
        {"label__judge__function": "nowhere.py:f"}, "nowhere.py"),
    "judge function is not there": ({"label__judge__function": "judge.py:nobody"}, "nobody"),
    "judge's template has an unknown placeholder": (
        API | {"label__judge__template": "{complition} {completion}"}, "did you mean {completion}"),
    "judge's template shows no completion": (
        API | {"label__judge__template": "{prompt}"}, "{completion}"),
    "judge's scale is upside down": (API | {"label__judge__score_max": 0}, "score_max"),
    "judge's key is not set": (
        API | {"label__judge__api_key_env": "NOBODYS_KEY"}, "NOBODYS_KEY is not set"),
    "judge's address is none": (API | {"label__judge__base_url": "api.openai.com"}, "base_url"),
    "lr is no number": ({"train__lr": "fast"}, "train.lr"),
}  # fmt: skip


def _assert_refused(place: Place, *said: str) -> None:
    finished = place.halos("run", str(place.path / "run.toml"), "--no-ui", "--name", "bad")
    assert finished.code == 2, finished.stderr
    for text in said:
        assert text in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == ""
    assert not place.runs.exists() or not any(place.runs.iterdir())


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_setting_is_refused_by_name(place: Place, case: str) -> None:
    changes, said = CASES[case]
    place.config(**changes)
    _assert_refused(place, said)


def test_a_missing_run_file_is_named(place: Place) -> None:
    _assert_refused(place, "run.toml")


def test_wrong_toml_is_located(place: Place) -> None:
    place.config().write_text("[policy\npath = 3\n")
    _assert_refused(place, "run.toml", "line 1")


def test_several_problems_are_said_at_once(place: Place) -> None:
    place.config(train__lr=-1, loop__num_rounds=0, sample__top_p=2)
    _assert_refused(place, "train.lr", "loop.num_rounds", "sample.top_p")


def test_an_empty_prompts_file_is_refused(place: Place) -> None:
    place.config()
    (place.path / "prompts.jsonl").write_text("")
    _assert_refused(place, "prompts.jsonl")


def test_a_policy_without_weights_is_refused(place: Place) -> None:
    bare = place.path / "bare"
    shutil.copytree(place.path / "policy", bare)
    (bare / "model.safetensors").unlink()
    place.config(policy__path=str(bare))
    _assert_refused(place, str(bare), "safetensors")


def test_a_reward_model_that_is_no_classifier_is_refused(place: Place) -> None:
    path = place.config(label__judge__function=None)
    judge = {"kind": "reward_model", "path": str(place.path / "policy")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in judge.items()]
    path.write_text(path.read_text().replace('kind = "function"', "\n".join(lines)))
    _assert_refused(place, "classifier")


def test_a_key_in_the_place_of_its_variables_name_is_not_repeated(place: Place) -> None:
    place.config(**API, label__judge__api_key_env="sk-live-1234")
    finished = place.halos("run", str(place.path / "run.toml"), "--no-ui", "--name", "bad")
    assert finished.code == 2
    assert "label.judge.api_key_env" in finished.stderr
    assert "sk-live-1234" not in finished.stderr + finished.stdout


def test_a_dry_run_names_the_judges_variable_that_is_not_set(place: Place) -> None:
    config = str(place.config(**API, label__judge__api_key_env="NOBODYS_KEY"))
    for command in (("run", config, "--dry-run"), ("doctor", config)):
        finished = place.halos(*command)
        assert finished.code in (1, 2)
        assert "NOBODYS_KEY is not set" in finished.stderr + finished.stdout

"""What the check of a run's inputs writes down: all problems at once, and what is well."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from halos_backend.errors import PromptsError, UsageError
from halos_backend.findings import (
    Finding,
    InputsError,
    complaint,
    problem_of,
    problems_in,
)
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.stages.prepare import prepare as prepare_module
from halos_backend.stages.prepare.prepare import prepare

from tests.support.prepare_fixtures import ROWS, PreparePlace


@pytest.fixture
def place(tmp_path: Path) -> PreparePlace:
    return PreparePlace(tmp_path)


def found(place: PreparePlace, source: Path, **tables: dict[str, Any]) -> list[Finding]:
    place.write_settings(source, **tables)
    return prepare(place.run_dir).findings


def judge_of(place: PreparePlace, spec: str) -> dict[str, Any]:
    return {"judge": {"kind": "function", "function": f"{place.path}/{spec}"}}


def test_a_problem_takes_its_fix_from_the_error_whatever_the_text_says() -> None:
    error = UsageError("a; b\nc", fix="do this; or that")

    assert str(error) == "a; b\nc; do this; or that"
    assert problem_of("policy", error) == Finding("problem", "policy", "a; b c", "do this; or that")
    assert problem_of("policy", UsageError("a; b")) == Finding("problem", "policy", "a; b")


def test_a_fix_outlives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(PromptsError("it is empty", fix="fill it")))

    assert (str(error), error.text, error.fix) == ("it is empty; fill it", "it is empty", "fill it")


def test_all_problems_are_found_at_once(place: PreparePlace) -> None:
    problems = problems_in(
        found(
            place,
            place.json_lines(ROWS),
            label=judge_of(place, "nowhere.py:reward"),
            sample={"max_new_tokens": 512, "stop_token_ids": [99]},
            prompts={"prompt": "question"},
        )
    )
    assert [problem.subject for problem in problems] == ["judge", "policy", "lengths", "prompts"]
    for problem, words in zip(
        problems, ["nowhere.py", "99", "max_new_tokens = 512", "'question'"], strict=True
    ):
        assert words in problem.text + problem.fix


def test_a_policy_that_is_not_there_hides_no_other_problem(place: PreparePlace) -> None:
    problems = problems_in(
        found(
            place,
            place.json_lines(ROWS),
            policy={"path": str(place.path / "nowhere")},
            prompts={"prompt": "question"},
        )
    )
    assert [problem.subject for problem in problems] == ["policy", "prompts"]
    assert problems[0].fix.startswith("name a directory with config.json")


def test_what_is_well_is_said_too(place: PreparePlace) -> None:
    source = place.json_lines([*ROWS, {"prompt": "a" * 60}])
    said = {finding.subject: finding for finding in found(place, source)}
    assert {finding.level for finding in said.values()} == {"ok"}
    assert said["prompts"].text == ("2 can be sampled from; 1 of more than 56 tokens are left out")
    assert said["policy"].text.startswith("LlamaForCausalLM: ")
    assert said["policy"].text.endswith(" parameters, float32, 64 tokens of context")
    assert said["judge"].text == f"the function {place.path}/judge.py:reward"
    assert said["sampler"].text.startswith("transformers")


def test_nothing_is_noted_of_inputs_that_are_wrong(place: PreparePlace) -> None:
    found(place, place.json_lines(ROWS), prompts={"prompt": "question"})
    assert place.prepared["num_parameters"] > 0
    assert "inputs" not in place.prepared
    assert "num_prompts" not in place.prepared


def test_several_problems_are_one_message_with_a_line_for_each(place: PreparePlace) -> None:
    with pytest.raises(InputsError) as raised:
        place.prepare(
            place.json_lines(ROWS),
            prompts={"prompt": "question"},
            label=judge_of(place, "nowhere.py:reward"),
        )
    first, *lines = str(raised.value).splitlines()
    assert first == "2 problems"
    assert [line.split(":")[0] for line in lines] == ["  judge", "  prompts"]


@pytest.mark.parametrize(
    ("choice", "level", "words"),
    [
        (
            EngineChoice("transformers", "5", "vLLM is not installed", "pip install vllm"),
            "warning",
            "judge: the reward model will be scored with transformers: vLLM is not installed;"
            " pip install vllm",
        ),
        (
            EngineChoice("transformers", "5", "no such model"),
            "warning",
            "judge: the reward model will be scored with transformers: no such model;"
            " set label.judge.engine = 'transformers'",
        ),
        (
            EngineChoice("vllm", "0.32.0", "asked for"),
            "ok",
            "judge: vllm 0.32.0, if it gives the rewards of transformers",
        ),
    ],
)
def test_what_scores_is_said(
    place: PreparePlace,
    monkeypatch: pytest.MonkeyPatch,
    choice: EngineChoice,
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr(prepare_module, "check_judge_engine", lambda settings: choice)
    (said,) = [
        finding
        for finding in found(place, place.json_lines(ROWS))
        if finding.subject == "judge" and "function" not in finding.text
    ]
    assert (said.level, complaint(said)) == (level, words)

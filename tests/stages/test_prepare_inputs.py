"""What the prepare stage notes of a run's inputs, and prompts that are frozen already."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from halos_backend.findings import InputsError, refuse_inputs
from halos_backend.stages.prepare.prepare import prepare

from tests.support.label_fixtures import save_classifier
from tests.support.prepare_fixtures import ROWS, PreparePlace


@pytest.fixture
def place(tmp_path: Path) -> PreparePlace:
    return PreparePlace(tmp_path)


def noted(place: PreparePlace) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for file in place.prepared["inputs"]:
        found.setdefault(file["what"], []).append(file)
    return found


def test_prompts_policy_and_judge_are_noted_with_digests(place: PreparePlace) -> None:
    (place.policy / "notes.md").write_text("its owner's business")
    place.prepare(place.json_lines(ROWS))
    found = noted(place)
    assert found.keys() == {"prompts.jsonl", "policy.path", "label.judge.function"}
    assert [file["path"] for file in found["prompts.jsonl"]] == ["prompts.jsonl"]
    assert {Path(file["path"]).name for file in found["policy.path"]} == {
        path.name for path in place.policy.iterdir()
    } - {"notes.md"}
    (judge,) = found["label.judge.function"]
    path = place.path / "judge.py"
    assert judge["path"] == str(path)
    assert judge["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (judge["bytes"], judge["inode"]) == (path.stat().st_size, path.stat().st_ino)


def names(place: PreparePlace, what: str) -> set[str]:
    return {Path(file["path"]).name for file in noted(place).get(what, [])}


def test_processors_adapters_and_trusted_code_are_noted_too(place: PreparePlace) -> None:
    (place.policy / "layers").mkdir()
    for name in ("modeling.py", "layers/mine.py", "results.json", "readme.txt"):
        (place.policy / name).write_text("{}")
    for name in ("preprocessor_config.json", "processor_config.json", "adapter_config.json"):
        (place.policy / name).write_text("{}")
    place.prepare(place.json_lines(ROWS))
    usual = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}
    beside = {"preprocessor_config.json", "processor_config.json", "adapter_config.json"}
    others = {"tokenizer_config.json", "chat_template.jinja"}
    assert names(place, "policy.path") == usual | beside | others
    place.prepare(place.json_lines(ROWS), policy={"trust_remote_code": True})
    assert names(place, "policy.path") == usual | beside | others | {"modeling.py", "mine.py"}


def test_a_reward_model_and_a_reference_are_noted(place: PreparePlace) -> None:
    model = save_classifier(place.path / "rewards")
    judge = {"kind": "reward_model", "path": str(model)}
    place.prepare(place.json_lines(ROWS), label={"judge": judge}, train={"reference": str(model)})
    expected = {path.name for path in model.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= expected
    assert names(place, "label.judge.path") == names(place, "train.reference") == expected
    assert names(place, "label.judge.function") == set()


def test_what_a_function_imports_beside_it_is_noted(place: PreparePlace) -> None:
    place.source("rules_of_the_judge.py", "NUMBER = 3\n")
    place.source("judge.py", "import rules_of_the_judge\ndef reward(p, c, r):\n    return 1\n")
    place.prepare(place.json_lines(ROWS))
    assert names(place, "label.judge.function") == {"judge.py", "rules_of_the_judge.py"}


def test_a_reference_that_is_not_there_is_refused(place: PreparePlace) -> None:
    with pytest.raises(InputsError, match=r"train\.reference = '/nowhere"):
        place.prepare(place.json_lines(ROWS), train={"reference": "/nowhere/model"})


def test_a_chat_template_is_noted(place: PreparePlace) -> None:
    template = place.source("template.jinja", "{{ messages[0]['content'] }}")
    place.prepare(place.json_lines(ROWS), policy={"chat_template": str(template)})
    (file,) = noted(place)["policy.chat_template"]
    assert file["path"] == str(template)


def test_a_changed_tokenizer_is_another_policy(place: PreparePlace) -> None:
    place.prepare(place.json_lines(ROWS))
    first = place.prepared["policy_sha256"]
    path = place.policy / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 999}))
    place.prepare(place.json_lines(ROWS))
    assert place.prepared["policy_sha256"] != first


def test_frozen_prompts_stay_as_they_are(place: PreparePlace) -> None:
    place.prepare(place.json_lines(ROWS))
    content, before = place.run_dir.prompts.read_bytes(), place.prepared
    place.write_settings("/nowhere.jsonl")
    prepare(place.run_dir, has_prompts=True)
    assert place.run_dir.prompts.read_bytes() == content
    assert place.prepared["num_prompts"] == before["num_prompts"] == 2
    assert place.prepared["prompts_sha256"] == before["prompts_sha256"]


def test_frozen_prompts_that_are_too_long_now_are_refused(place: PreparePlace) -> None:
    """Of 64 tokens 60 are for the completion; the shorter prompt has 4, the longer one more."""
    rows = [{"prompt": "a", "answer": 1}, {"prompt": "say a", "answer": 2}]
    place.prepare(place.json_lines(rows))
    lengths = [
        len(json.loads(line)["token_ids"])
        for line in place.run_dir.prompts.read_text().splitlines()
    ]
    assert lengths[0] == 4 < lengths[1]
    place.write_settings("/nowhere.jsonl", sample={"max_new_tokens": 60})
    with pytest.raises(InputsError, match=r"1 of 2 prompts have more than the 4 tokens"):
        refuse_inputs(prepare(place.run_dir, has_prompts=True))

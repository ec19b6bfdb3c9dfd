"""Inputs that changed since a run's creation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.store.input_files import look_at
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor import provenance
from halos_backend.supervisor.provenance import changed_inputs, refusal

from tests.support.journals import settings


class Prepared:
    """A run directory with noted prompts, policy and judge."""

    def __init__(self, tmp_path: Path) -> None:
        self.dir = RunDir(tmp_path / "run")
        self.dir.path.mkdir()
        self.weights, self.judge = tmp_path / "model.safetensors", tmp_path / "judge.py"
        self.dir.prompts.write_text('{"prompt_id":"a"}\n')
        self.weights.write_bytes(b"weights")
        self.judge.write_text("def reward(): ...\n")
        self.note(
            ("prompts.jsonl", self.dir.prompts),
            ("policy.path", self.weights),
            ("label.judge.function", self.judge),
        )
        self.state = RunState(run="run")
        self.settings = self.with_judge(f"{self.judge}:reward")

    def note(self, *files: tuple[str, Path]) -> None:
        noted = [look_at(what, path, self.dir) for what, path in files]
        found = {"num_prompts": 1, "inputs": msgspec.to_builtins(noted)}
        self.dir.prepared.write_text(json.dumps(found))

    def with_judge(self, judge: str | dict[str, str]) -> RunSettings:
        plain: dict[str, Any] = settings().model_dump(mode="json")
        function = {"kind": "function", "function": judge}
        plain["label"]["judge"] = function if isinstance(judge, str) else judge
        return RunSettings.model_validate(plain)

    def changed(self) -> tuple[list[str], dict[str, tuple[str, str]]]:
        found = changed_inputs(self.dir, self.state, self.settings)
        return list(found.refused), found.announced


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return Prepared(tmp_path)


def rewrite(path: Path, content: bytes) -> None:
    """Other bytes under another time, as long after the first ones as a person would take."""
    path.write_bytes(content)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000_000))


def test_untouched_inputs_are_not_read_again(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> str:
        raise AssertionError("a file was hashed")

    monkeypatch.setattr("halos_backend.store.input_files.sha256_of", refuse)
    assert prepared.changed() == ([], {})


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"Weights", ""), (b"weig", " (4 bytes, not 7)"), (b"", " (0 bytes, not 7)")],
)
def test_a_changed_policy_is_refused_by_name(prepared: Prepared, content: bytes, said: str) -> None:
    rewrite(prepared.weights, content)
    assert prepared.changed() == ([f"policy.path: {prepared.weights} changed{said}"], {})
    assert prepared.changed()[0], "it stays refused"


def test_changed_and_missing_prompts_are_refused_by_name(prepared: Prepared) -> None:
    rewrite(prepared.dir.prompts, b"")
    assert prepared.changed()[0] == [f"{prepared.dir.prompts} changed (0 bytes, not 18)"]
    prepared.dir.prompts.unlink()
    assert prepared.changed()[0] == [f"{prepared.dir.prompts} is gone: No such file or directory"]


def test_a_file_that_was_put_back_is_as_good_as_before(prepared: Prepared) -> None:
    content = prepared.weights.read_bytes()
    prepared.weights.unlink()
    assert "gone" in prepared.changed()[0][0]
    rewrite(prepared.weights, content)
    assert prepared.changed() == ([], {})


def test_a_touched_file_is_read_once(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(prepared.weights, b"weights")
    assert prepared.changed() == ([], {})
    test_untouched_inputs_are_not_read_again(prepared, monkeypatch)
    assert json.loads(prepared.dir.prepared.read_text())["num_prompts"] == 1


def test_a_changed_judge_is_announced_once(prepared: Prepared) -> None:
    rewrite(prepared.judge, b"def reward(): return 1\n")
    refused, announced = prepared.changed()
    assert refused == []
    ((path, (before, now)),) = announced.items()
    assert path == str(prepared.judge)
    assert before != now
    assert prepared.changed() == ([], {})


def test_changed_code_of_the_policy_is_refused_and_a_changed_reward_model_is_announced(
    prepared: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "rewards"
    folder.mkdir()
    code, model = tmp_path / "modeling.py", folder / "model.safetensors"
    code.write_text("SCALE = 1\n")
    model.write_bytes(b"weights")
    prepared.note(("policy.path", code), ("label.judge.path", model))
    rewrite(model, b"others!")
    assert prepared.changed() == ([], {}), "a function is the judge now"
    prepared.settings = prepared.with_judge({"kind": "reward_model", "path": str(folder)})
    refused, announced = prepared.changed()
    assert (refused, list(announced)) == ([], [str(model)])
    rewrite(code, b"SCALE = 2\n")
    assert prepared.changed() == ([f"policy.path: {code} changed"], {})


def test_a_changed_reference_is_refused_while_it_is_the_reference(
    prepared: Prepared, tmp_path: Path
) -> None:
    prepared.note(("train.reference", prepared.weights))
    rewrite(prepared.weights, b"Weights")
    assert prepared.changed() == ([], {})
    train = prepared.settings.train.model_copy(update={"reference": str(tmp_path)})
    prepared.settings = prepared.settings.model_copy(update={"train": train})
    assert prepared.changed()[0] == [f"train.reference: {prepared.weights} changed"]


def test_a_judge_that_is_no_longer_asked_may_be_gone(prepared: Prepared) -> None:
    prepared.judge.unlink()
    assert "label.judge.function" in prepared.changed()[0][0]
    prepared.settings = prepared.with_judge("/elsewhere/judge.py:reward")
    assert prepared.changed() == ([], {})


def test_a_moved_run_finds_its_own_prompts(prepared: Prepared) -> None:
    prepared.dir = RunDir(prepared.dir.path.rename(prepared.dir.path.with_name("moved")))
    assert prepared.changed() == ([], {})


def test_a_run_of_an_earlier_version_has_the_digest_of_its_prompts_checked(
    prepared: Prepared,
) -> None:
    prepared.dir.prepared.write_text('{"num_prompts": 1}')
    digest = "4a3d8cea9f5bd1bdb2f4b4d8c6f1b0f0"
    prepared.state = RunState(run="run", prompts_sha256=digest)
    assert prepared.changed()[0] == [f"{prepared.dir.prompts} changed"]
    true_digest = provenance.sha256_of(prepared.dir.prompts)
    prepared.state = RunState(run="run", prompts_sha256=true_digest)
    assert prepared.changed() == ([], {})


def test_a_run_directory_without_prepared_has_nothing_to_compare(prepared: Prepared) -> None:
    prepared.dir.prepared.unlink()
    assert prepared.changed() == ([], {})


def test_the_refusal_says_what_to_do(prepared: Prepared) -> None:
    text = refusal(("a changed", "b is gone"), prepared.dir)
    assert text.startswith("a changed; b is gone: put the file back")
    assert "start a new run" in text

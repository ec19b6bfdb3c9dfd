"""Good input to begin with, in a process where a defect shows and which reaches no hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest
from halos_backend.store.run_dir import RunDir
from transformers.utils import logging as transformers_logging

from tests.support.place import JUDGE, TEMPLATE, make_policy

ROWS: list[dict[str, Any]] = [
    {"prompt": "say a", "answer": "a", "level": 1, "tags": ["x", "y"]},
    {"prompt": [{"role": "user", "content": "say b"}], "answer": "b", "level": 0.5, "tags": []},
    {"prompt": "say \U0001f600", "answer": None, "level": 3, "tags": ["z"]},
]


@dataclass(frozen=True)
class Good:
    """A policy, prompts, a template and a judge, all as they should be."""

    path: Path

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.jsonl"

    @property
    def template(self) -> Path:
        return self.path / "template.jinja"

    def settings(self, **tables: dict[str, Any]) -> dict[str, Any]:
        judge = {"kind": "function", "function": f"{self.path}/judge.py:vowels"}
        table: dict[str, dict[str, Any]] = {
            "policy": {"path": str(self.policy)},
            "prompts": {"path": str(self.prompts)},
            "sample": {"engine": "transformers", "max_new_tokens": 8},
            "label": {"judge": judge, "feedback": {"kind": "pairwise"}},
            "train": {"loss": {"kind": "dpo"}},
            "launch": {"num_threads": 1, "device": "cpu"},
        }
        return {name: {**values, **tables.get(name, {})} for name, values in table.items()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    path = tmp_path_factory.mktemp("good")
    make_policy(path / "policy")
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (path / "template.jinja").write_text(TEMPLATE)
    (path / "judge.py").write_text(JUDGE)
    return Good(path)


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No hub, no one else's files, and nothing on this process's own standard error."""

    def no_hub(*_names: Any, **_options: Any) -> None:
        raise ConnectionError("this machine reaches no hub")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", no_hub)
    monkeypatch.chdir(tmp_path)  # where exports are written
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HALOS_RUNS_DIR", str(tmp_path / "runs"))
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    yield
    transformers_logging.set_verbosity(level)

"""The fixtures of whole runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from forks import forking_python
from place import JUDGE, LETTERS, Place, make_policy


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "policy"
    make_policy(path)
    return path


@pytest.fixture
def place(policy: Path, tmp_path: Path) -> Place:
    """Its programs begin with their libraries imported."""
    return make_place(policy, tmp_path, python=forking_python())


@pytest.fixture
def plain_place(policy: Path, tmp_path: Path) -> Place:
    """Its programs begin as anybody's, for what a process is, inherits, finds and dies of."""
    return make_place(policy, tmp_path)


@pytest.fixture(scope="session")
def whole(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where the run `whole` went to its end undisturbed."""
    place = make_place(policy, tmp_path_factory.mktemp("whole"), python=forking_python())
    assert place.halos("run", str(place.config()), "--no-ui", "--name", "whole").code == 0
    return place


def make_place(policy: Path, path: Path, *, python: str = sys.executable) -> Place:
    (path / "policy").symlink_to(policy)
    (path / "judge.py").write_text(JUDGE)
    rows = [{"prompt": f"say {LETTERS[i]}{'x' * (i % 5)}", "answer": i} for i in range(20)]
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Place(path, python)

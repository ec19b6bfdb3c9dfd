"""The fixtures of a place to run in; a folder's conftest imports those that its tests ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.forks import forking_python
from tests.support.place import Place, make_place, make_policy


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "policy"
    make_policy(path)
    return path


@pytest.fixture
def place(policy: Path, tmp_path: Path) -> Place:
    """Its programs, and the stages too, begin with their libraries imported."""
    return make_place(policy, tmp_path, python=forking_python())


@pytest.fixture
def plain_place(policy: Path, tmp_path: Path) -> Place:
    """Its programs begin as anybody's, for what a process is, inherits, finds and dies of."""
    return make_place(policy, tmp_path)

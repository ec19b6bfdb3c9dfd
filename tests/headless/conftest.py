"""A runs directory, and the command line on it as a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM, run_halos
from tests.support.forks import forking, forking_python
from tests.support.place import Place, make_place, make_policy

Halos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    path = tmp_path / "runs"
    path.mkdir()
    return path


@pytest.fixture
def environment(runs: Path) -> dict[str, str]:
    """The command line's: the runs directory is the default one, colours are off."""
    kept = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    return {**kept, "HALOS_RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1", "TZ": "UTC"}


@pytest.fixture
def halos(environment: dict[str, str], tmp_path: Path) -> Halos:
    """Run a command to its end, outside the source tree; it begins with its modules imported."""
    return runner(forking("halos_tui"), environment, tmp_path)


@pytest.fixture
def plain_halos(environment: dict[str, str], tmp_path: Path) -> Halos:
    """Run a command that begins as anybody's, for what it imports by itself."""
    return runner(PROGRAM, environment, tmp_path)


def runner(program: Sequence[str], environment: dict[str, str], cwd: Path) -> Halos:
    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run_halos(*arguments, program=program, environment=environment, cwd=cwd, stdin=stdin)

    return run


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
    """Its programs begin as anybody's, for what they leave when they are cut off."""
    return make_place(policy, tmp_path)

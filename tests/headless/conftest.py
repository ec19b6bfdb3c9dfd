"""A runs directory, and the command line on it as a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM, run_halos
from tests.support.forks import forking
from tests.support.place_fixtures import place as place
from tests.support.place_fixtures import plain_place as plain_place
from tests.support.place_fixtures import policy as policy

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

"""A runs directory, and the command line on it as a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import run_halos

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
    """Run a command to its end, outside the source tree."""

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run_halos(*arguments, environment=environment, cwd=tmp_path, stdin=stdin)

    return run

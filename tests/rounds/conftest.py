"""The fixtures of whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.errors import ExitCode

from tests.support.forks import forking_python
from tests.support.place import Place, make_place
from tests.support.place_fixtures import place as place
from tests.support.place_fixtures import plain_place as plain_place
from tests.support.place_fixtures import policy as policy


@pytest.fixture(scope="session")
def whole(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where the run `whole` went to its end undisturbed."""
    return _with_a_run(policy, tmp_path_factory, "whole", ExitCode.COMPLETED)


@pytest.fixture(scope="session")
def one(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where the run `one` completed its only round."""
    return _with_a_run(policy, tmp_path_factory, "one", ExitCode.COMPLETED, loop__num_rounds=1)


@pytest.fixture(scope="session")
def paused(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where the run `paused`, of three rounds, waits after each; it has done the first."""
    return _with_a_run(
        policy,
        tmp_path_factory,
        "paused",
        ExitCode.UNFINISHED,
        loop__num_rounds=3,
        loop__pause_after_each_round=True,
        train__schedule="constant",
        train__warmup_frac=0.0,
    )


def _with_a_run(
    policy: Path, factory: pytest.TempPathFactory, name: str, code: ExitCode, **changes: Any
) -> Place:
    place = make_place(policy, factory.mktemp(name), python=forking_python())
    done = place.halos("run", str(place.config(**changes)), "--no-ui", "--name", name)
    assert done.code == code, done.stderr
    return place

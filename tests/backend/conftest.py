"""Fixtures of the supervisor's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_run import FakeRun


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., FakeRun]]:
    """Makes one run with fake stages; afterwards nothing of it may be running."""
    made: list[FakeRun] = []

    def make(**loop: Any) -> FakeRun:
        made.append(FakeRun(tmp_path / "run", **loop))
        return made[-1]

    yield make
    for run in made:
        run.check()

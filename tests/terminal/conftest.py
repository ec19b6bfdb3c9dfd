"""What the tests on real terminals share: runs of the demo that are ended whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo_run import DemoRun

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.terminal)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoRun]:
    """Not begun yet."""
    run = DemoRun(tmp_path)
    yield run
    run.close()


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """One that goes on for longer than all tests of a module, and leaves them the processor."""
    run = DemoRun(tmp_path_factory.mktemp("long"), has_models=False)
    run.begin()
    yield run
    run.close()

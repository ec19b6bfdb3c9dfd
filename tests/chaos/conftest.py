"""Fixtures of the chaos suite, and its report: every case is tried, and every case is counted."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos_run import ChaosRun
from tests.support.reference import Reference, get_reference
from tests.support.schedule import CASES, SEED
from tests.support.stopped import get_stopped

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.chaos)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line of JSON: the seed, cases tried and failed, runs, kills, cuts."""
    reports = [
        report
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, ())
        if "tests/chaos/" in getattr(report, "nodeid", "")
    ]
    if not reports:
        return
    tried = {report.nodeid: report for report in reports}
    failed = sorted({report.nodeid for report in reports if report.failed})
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("", ()):
        if getattr(report, "when", "") == "teardown":
            counts.update(dict(report.user_properties))
    line = {
        "suite": "chaos",
        "seed": SEED,
        "tried": len(tried),
        "failed": len(failed),
        "skipped": sum(report.skipped for report in reports),
        **counts,
    }
    terminalreporter.write_line(json.dumps(line))
    for name in failed:
        terminalreporter.write_line(f"again: SEED={SEED} CASES={CASES} pytest '{name}'")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and any(
        "tests/chaos/" in report.nodeid for report in reporter.stats.get("skipped", ())
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    own = tmp_path_factory.getbasetemp()
    path = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "reference"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture
def reference(shared: Path) -> Reference:
    """The undisturbed run of models."""
    return get_reference(shared, "models")


@pytest.fixture
def stopped(shared: Path) -> Path:
    return get_stopped(shared, "models")


@pytest.fixture
def stopped_fakes(shared: Path) -> Path:
    return get_stopped(shared, "fakes")


@pytest.fixture
def make_run(
    shared: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[Callable[..., ChaosRun]]:
    """Makes the run of a case; nothing of it outlives the test."""
    made: list[ChaosRun] = []

    def make(kind: str = "fakes", **options: Any) -> ChaosRun:
        made.append(ChaosRun(get_reference(shared, kind), tmp_path, **options))
        return made[-1]

    yield make
    for run in made:
        record_property("runs_of_models" if run.reference.has_models else "runs_of_fakes", 1)
        record_property("kills", run.num_kills)
        record_property("processes_killed", run.num_killed)
        record_property("revivals", run.num_revivals)
        run.close()

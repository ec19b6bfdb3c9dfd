"""Records that name a process of somebody else: its pid was given out again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.identity import identify

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all

MakeRun = Callable[..., ChaosRun]


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the run, in a session of its own."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    assert process.poll() is None, "it was signalled"
    process.kill()
    process.wait()


def _forged(pid: int, **changes: Any) -> dict[str, Any]:
    found = identify(pid)
    true = {
        "pid": pid, "start_time": found.start_time, "boot_id": found.boot_id, "host": found.host,
    }  # fmt: skip
    return {**true, **changes}


FORGERIES: dict[str, dict[str, Any]] = {
    "another start time": {"start_time": 12.25},
    "another boot": {"boot_id": "00000000-0000-0000-0000-000000000000"},
}


@pytest.mark.parametrize("changes", FORGERIES.values(), ids=FORGERIES)
def test_a_process_that_has_the_pid_of_a_stage_is_left_alone(
    make_run: MakeRun, bystander: subprocess.Popen[bytes], changes: dict[str, Any]
) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="train")
    run.strike("client", "guardian", "supervisor", "stage")
    _rewrite_last(run.path / "events.jsonl", _forged(bystander.pid, **changes))
    run.begin()
    run.finish()
    run.prefixes.clear()  # it was the test that rewrote the journal
    check_all(run)


def test_a_process_that_has_the_pid_of_a_supervisor_is_left_alone(
    make_run: MakeRun, bystander: subprocess.Popen[bytes]
) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="label")
    run.strike("client", "guardian", "supervisor")
    forged = json.dumps(_forged(bystander.pid, start_time=12.25))
    (run.path / "supervisor.lock").write_text(forged + "\n")
    run.begin()
    run.finish()
    check_all(run)


def _rewrite_last(journal: Path, process: dict[str, Any]) -> None:
    """Let the newest StageStarted name another process."""
    lines = journal.read_text().splitlines()
    event = json.loads(lines[-1])
    assert event["type"] == "StageStarted"
    lines[-1] = json.dumps({**event, "process": process}, separators=(",", ":"))
    journal.write_text("\n".join(lines) + "\n")

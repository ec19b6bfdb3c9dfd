"""The disk fills up in a stage: the run stops resumably, and goes on once there is space."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from halos_backend.errors import ExitCode
from halos_backend.events import Stage

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.small_disk import SmallDisk, limit_file_size
from tests.support.victims import of_role

MakeRun = Callable[..., ChaosRun]
Record = Callable[[str, object], None]
FILLED: list[tuple[str, Stage, int]] = [
    ("fakes", "sample", 0),
    ("fakes", "label", 16 << 10),
    ("fakes", "train", 0),
    ("models", "train", 128 << 10),
]
"""The kind of run, the stage in which the disk fills up, and the bytes that are left for it."""
FILE_LIMIT = 60_000
"""Bytes: more than any journal of these runs, less than a checkpoint."""


@pytest.mark.parametrize(("kind", "stage", "spare"), FILLED)
def test_a_full_disk_stops_the_run_until_there_is_space(
    make_run: MakeRun, tmp_path: Path, record_property: Record, kind: str, stage: Stage, spare: int
) -> None:
    with SmallDisk(tmp_path / "disk", str(tmp_path)) as disk:
        record_property(disk.kind, 1)
        run = make_run(kind, runs=disk.path / "runs")
        client = run.begin()
        run.wait_for_event("StageStarted", round=1, stage=stage)
        disk.fill(spare)
        code = client.wait(timeout=120)
        assert code in (ExitCode.FAILED, ExitCode.UNFINISHED), run.evidence()
        run.wait_until_all_leave()
        assert run.state.status != "completed"
        disk.relieve()
        run.begin()
        run.finish()
        check_all(run)


def test_a_checkpoint_that_is_too_large_for_the_file_system_stops_the_run(
    make_run: MakeRun,
) -> None:
    run = make_run("fakes, cold")  # a program that is there already has no limit
    client = run.begin()
    run.wait_for_event("StageStarted", round=1, stage="label")
    for process in [
        p for role in ("guardian", "supervisor") for p in of_role(run.processes(), role)
    ]:
        limit_file_size(process.pid, FILE_LIMIT)
    run.wait_for(lambda: client.poll() is not None, "the run stops", revive=False)
    assert client.returncode == ExitCode.FAILED, run.evidence()
    run.wait_until_all_leave()
    assert run.state.status == "failed"
    failed = next(event for event in run.events if event["type"] == "StageFailed")
    assert (failed["stage"], failed["cause"]) == ("train", "no_space")
    run.begin()
    run.finish()
    check_all(run)

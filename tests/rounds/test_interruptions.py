"""Runs that are cut off at each stage go on there and end with the bits of an uninterrupted run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from halos_backend.store.identity import process_status

from tests.support.place import Place
from tests.support.waiting import wait_for


def _started(place: Place, run: str, round: int, stage: str) -> dict[str, Any] | None:
    if not (place.runs / run / "events.jsonl").is_file():
        return None
    for event in place.events(run):
        if event["type"] == "StageStarted" and (event["round"], event["stage"]) == (round, stage):
            return event
    return None


def _kill(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


def _begin_round_two(place: Place, run: str, **changes: Any) -> subprocess.Popen[str]:
    """The client of a run whose second round is executed by programs that begin as anybody's."""
    config = place.config(
        loop__pause_after_each_round=True,
        launch__warm_workers=False,  # those that stay are killed in tests/chaos
        **changes,
    )
    assert place.halos("run", str(config), "--no-ui", "--name", run).code == 6
    return replace(place, python=sys.executable).start("resume", run, "--no-ui")


@pytest.mark.slow
def test_a_run_killed_in_round_two_recovers_by_itself_to_the_same_weights(
    place: Place, whole: Place
) -> None:
    """In its train stage, with its supervisor; tests/chaos kills each victim in each stage."""
    slow = f"{place.path}/judge.py:vowels_slowly"
    client = _begin_round_two(place, "cut", label__judge__function=slow)
    started = wait_for(lambda: _started(place, "cut", 2, "train"))
    supervisor = [e for e in place.events("cut") if e["type"] == "SupervisorStarted"][-1]
    attempt = place.runs / "cut" / "rounds" / "0002" / "train" / "attempt_1"
    wait_for(lambda: (attempt / "events.jsonl").is_file())
    left = attempt / "checkpoint" / "half.safetensors"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a checkpoint")
    _kill(supervisor["process"]["pid"], signal.SIGKILL)
    _kill(started["process"]["pid"], signal.SIGKILL)
    _, stderr = client.communicate(timeout=120)
    assert client.returncode == 0, stderr
    assert place.weights("cut") == whole.weights("whole")
    assert not left.parent.exists()
    assert (attempt / "job.json").is_file()
    attempts = [
        (e["round"], e["stage"], e["attempt"])
        for e in place.events("cut")
        if e["type"] == "StageFinished"
    ]
    assert len(attempts) == 6
    assert attempts.count((2, "train", 2)) == 1


@pytest.mark.slow
def test_a_living_stage_is_adopted_after_all_others_were_killed(place: Place, whole: Place) -> None:
    client = _begin_round_two(place, "orphan")
    wait_for(lambda: _started(place, "orphan", 2, "train"))
    supervisor = [e for e in place.events("orphan") if e["type"] == "SupervisorStarted"][-1]
    pid = supervisor["process"]["pid"]
    status = process_status(pid)
    assert status is not None
    for victim in (client.pid, status.parent, pid):  # the parent is the guardian
        _kill(victim, signal.SIGKILL)
    client.communicate(timeout=60)
    resumed = place.halos("resume", "orphan", "--no-ui")
    assert resumed.code == 0, resumed.stderr
    assert place.weights("orphan") == whole.weights("whole")


def test_resume_of_a_completed_run_is_refused(whole: Place) -> None:
    refused = whole.halos("resume", "whole")
    assert refused.code == 2
    assert "completed" in refused.stderr
    assert "Traceback" not in refused.stderr

"""Runs that label while they sample are the runs that take turns, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
from halos_backend.events import Stage
from halos_backend.store.run_dir import RunDir

from tests.support.label_fixtures import save_classifier
from tests.support.place import Place
from tests.support.waiting import wait_for


def times(place: Place, run: str, kind: str) -> dict[tuple[int, str], float]:
    return {(e["round"], e["stage"]): e["t"] for e in place.events(run) if e["type"] == kind}


def done_ns(place: Place, round: int, stage: Stage) -> int:
    attempt = RunDir(place.runs / "overlapped").attempt(round, stage, 1)
    return attempt.done.stat().st_mtime_ns


@pytest.mark.parametrize("is_warm", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_reward_model_gives_the_same_run(place: Place, is_warm: bool) -> None:
    judge = save_classifier(place.path / "judge")
    for name, overlaps in (("turns", False), ("overlapped", True)):
        config = place.config(
            loop__overlap=overlaps,
            launch__warm_workers=is_warm,
            label__judge__function=None,
            label__judge__kind="reward_model",
            label__judge__path=str(judge),
        )
        done = place.halos("run", str(config), "--no-ui", "--name", name)
        assert done.code == 0, done.stderr
    begun = times(place, "overlapped", "StageStarted")
    ended = times(place, "overlapped", "StageFinished")
    for round in (1, 2):
        assert begun[round, "label"] < ended[round, "sample"]
        # the programs may end in any order, but none is done with completions that are not
        assert done_ns(place, round, "sample") <= done_ns(place, round, "label")
    assert place.weights("overlapped") == place.weights("turns")
    for outcome in ("scores.jsonl", "feedback.jsonl"):
        relative = f"rounds/0002/label/attempt_1/{outcome}"
        assert (place.runs / "overlapped" / relative).read_bytes() == (
            place.runs / "turns" / relative
        ).read_bytes()


def test_a_pause_at_the_next_stage_waits_for_both(place: Place, whole: Place) -> None:
    slow = place.config(
        loop__overlap=True, label__judge__function=f"{place.path}/judge.py:vowels_slowly"
    )
    client = place.start("run", str(slow), "--no-ui", "--name", "paused")
    journal = place.runs / "paused" / "events.jsonl"
    wait_for(lambda: journal.is_file() and (1, "label") in times(place, "paused", "StageStarted"))
    asked = place.halos("pause", "paused", "--at", "stage")
    assert asked.code == 0, asked.stderr
    assert client.wait(timeout=120) == 6
    client.communicate()
    assert times(place, "paused", "StageFinished").keys() == {(1, "sample"), (1, "label")}
    assert times(place, "paused", "StageFailed") == {}
    resumed = place.halos("resume", "paused", "--no-ui")
    assert resumed.code == 0, resumed.stderr
    assert place.weights("paused") == whole.weights("whole")


def test_an_abort_ends_both_at_once(place: Place) -> None:
    slow = place.config(
        loop__overlap=True, label__judge__function=f"{place.path}/judge.py:vowels_slowly"
    )
    client = place.start("run", str(slow), "--no-ui", "--name", "aborted")
    journal = place.runs / "aborted" / "events.jsonl"
    wait_for(lambda: journal.is_file() and (1, "label") in times(place, "aborted", "StageStarted"))
    assert place.halos("abort", "aborted", "--yes").code == 3
    client.communicate(timeout=120)
    failed: list[dict[str, Any]] = [
        event for event in place.events("aborted") if event["type"] == "StageFailed"
    ]
    assert {(e["stage"], e["cause"]) for e in failed} >= {("label", "stopped")}
    assert {e["cause"] for e in failed} == {"stopped"}
    assert place.events("aborted")[-1]["type"] == "RunAborted"

"""Runs that label while they sample are killed: they end with the bits of those that take turns."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.reference import Reference, get_reference
from tests.support.schedule import ROUNDS, SEED

MakeRun = Callable[..., ChaosRun]


def test_an_undisturbed_run_ends_with_the_bits_of_one_that_takes_turns(
    shared: Path, reference: Reference
) -> None:
    overlapped = get_reference(shared, "models, overlapped")
    assert overlapped.weights == reference.weights
    for round in ROUNDS:
        assert time_of(overlapped, "StageStarted", round, "label") < time_of(
            overlapped, "StageFinished", round, "sample"
        )


@pytest.mark.parametrize("stage", ["sample", "label"])
def test_one_of_the_two_is_killed_while_both_run(make_run: MakeRun, stage: str) -> None:
    draw = random.Random(f"{SEED}/overlap/{stage}")
    run = make_run("fakes, overlapped")
    run.begin()
    event = run.wait_for_event("StageStarted", round=1, stage="label")
    if stage == "sample":
        event = run.wait_for_event("StageStarted", round=1, stage="sample")
    time.sleep(draw.random() * run.reference.elapsed_s(1, "sample"))
    victims = [found for found in run.processes() if found.pid == event["process"]["pid"]]
    for victim in victims:
        victim.signal(signal.SIGKILL)
    run.finish()
    check_all(run)
    failed = [e for e in run.events if e["type"] == "StageFailed"]
    if stage == "sample" and failed:
        # the labelling that followed it was stopped, and is no crash of its own
        assert {(e["stage"], e["cause"]) for e in failed} <= {
            ("sample", "crashed"),
            ("label", "stopped"),
        }


def time_of(run: Reference, kind: str, round: int, stage: str) -> float:
    (event,) = (
        e for e in run.events if (e["type"], e.get("round"), e.get("stage")) == (kind, round, stage)
    )
    return float(event["t"])

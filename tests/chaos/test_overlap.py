"""Runs that label while they sample are killed: they end with the bits of those that take turns."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.chaos.chaos_run import ChaosRun
from tests.chaos.invariants import check_all
from tests.chaos.reference import Reference
from tests.chaos.schedule import CASES, IN_A_ROW, ROUNDS, SEED, kills_in_a_row, single_kill

MakeRun = Callable[..., ChaosRun]
OFFSET = 2000
"""Other moments than those of the other suites."""


def test_an_undisturbed_run_ends_with_the_bits_of_one_that_takes_turns(
    make_run: MakeRun, reference: Reference
) -> None:
    run = make_run("overlapped")
    assert run.reference.weights == reference.weights
    run.begin()
    run.finish()
    check_all(run)
    for round in ROUNDS:
        assert time_of(run, "StageStarted", round, "label") < time_of(
            run, "StageFinished", round, "sample"
        )


@pytest.mark.parametrize("number", range(max(1, CASES // 2)))
def test_one_kill_anywhere(make_run: MakeRun, number: int) -> None:
    kill = single_kill(SEED, OFFSET + number)
    print(f"seed {SEED} case {OFFSET + number}: {kill}")  # noqa: T201
    run = make_run("overlapped")
    run.begin()
    run.reach(kill)
    run.strike(*kill.victims)
    run.finish()
    check_all(run)


@pytest.mark.timeout(600)
def test_ten_kills_in_one_run(make_run: MakeRun) -> None:
    run = make_run("overlapped")
    run.begin()
    for kill in kills_in_a_row(SEED, OFFSET, IN_A_ROW):
        print(f"seed {SEED} row {OFFSET}: {kill}")  # noqa: T201
        run.reach(kill)
        run.strike(*kill.victims)
    run.finish()
    assert run.num_kills == IN_A_ROW
    check_all(run)


@pytest.mark.parametrize("stage", ["sample", "label"])
def test_one_of_the_two_is_killed_while_both_run(make_run: MakeRun, stage: str) -> None:
    draw = random.Random(f"{SEED}/overlap/{stage}")
    run = make_run("overlapped")
    run.begin()
    event = run.wait_for_event("StageStarted", round=1, stage="label")
    if stage == "sample":
        event = run.wait_for_event("StageStarted", round=1, stage="sample")
    time.sleep(draw.random())
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


def time_of(run: ChaosRun, kind: str, round: int, stage: str) -> float:
    (event,) = (
        e for e in run.events if (e["type"], e.get("round"), e.get("stage")) == (kind, round, stage)
    )
    return float(event["t"])

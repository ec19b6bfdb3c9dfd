"""kill -9 at moments drawn from the seed: the run goes on and ends with the same bits."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from halos_backend.errors import ExitCode
from halos_backend.events import STAGES, Stage
from halos_backend.supervisor.processes.stage_runner import count_durable

from tests.support.chaos_run import ChaosRun
from tests.support.fake_programs.fake_stages import HELD_AT
from tests.support.invariants import FAKED, check_all
from tests.support.reference import NAME
from tests.support.schedule import (
    CASES,
    FAKES_PER_CASE,
    IN_A_ROW,
    ROUNDS,
    SEED,
    SHIFTS,
    VICTIMS,
    kills_in_a_row,
    single_kill,
)
from tests.support.victims import Role, of_role

MakeRun = Callable[..., ChaosRun]
WAYS = ("models", "models, cold", "models, overlapped")
ROW_WAYS = ("models", "models, overlapped", "models")
"""What is killed begins cold the next time."""
FAKE_WAYS = ("fakes", "fakes, cold", "fakes, overlapped")
ROWS = len(SHIFTS) * max(1, CASES // 10)
OFFSET = 12_000
"""Other moments than those of the runs of models."""
CREATION_S = 4.0
"""About as long as the check of a run's inputs takes."""


@pytest.mark.parametrize("number", range(CASES))
def test_one_kill_anywhere(make_run: MakeRun, number: int) -> None:
    _kill_once(make_run(WAYS[number % len(WAYS)]), number)


@pytest.mark.parametrize("number", range(CASES * FAKES_PER_CASE))
def test_one_kill_anywhere_in_a_run_of_fakes(make_run: MakeRun, number: int) -> None:
    _kill_once(make_run(FAKE_WAYS[number % len(FAKE_WAYS)]), OFFSET + number)


def _kill_once(run: ChaosRun, number: int) -> None:
    kill = single_kill(SEED, number)
    print(f"seed {SEED} case {number}: {kill}")  # noqa: T201
    run.begin()
    run.reach(kill)
    run.strike(*kill.victims)
    run.finish()
    check_all(run)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROWS))
def test_ten_kills_in_one_run(make_run: MakeRun, number: int) -> None:
    """Three rows kill each victim in each stage."""
    run = make_run(ROW_WAYS[number % len(ROW_WAYS)])
    run.begin()
    for kill in kills_in_a_row(SEED, number):
        print(f"seed {SEED} row {number}: {kill}")  # noqa: T201
        run.reach(kill)
        run.strike(*kill.victims)
    run.finish()
    assert run.num_kills == IN_A_ROW
    check_all(run)


def test_three_rows_kill_each_victim_in_each_stage() -> None:
    kills = [kill for number in range(len(SHIFTS)) for kill in kills_in_a_row(SEED, number)]
    assert {(kill.victims, kill.stage) for kill in kills} == set(product(VICTIMS, STAGES))


@pytest.mark.parametrize("stage", FAKED)
def test_what_a_killed_stage_left_is_taken_over(make_run: MakeRun, stage: Stage) -> None:
    run = make_run()
    hold = _run_until_held(run, stage)
    run.strike("stage")
    hold.unlink()
    run.finish()
    check_all(run)
    failed = run.wait_for_event("StageFailed", round=1, stage=stage, attempt=1)
    finished = run.wait_for_event("StageFinished", round=1, stage=stage, attempt=2)
    assert failed["durable"] == finished["summary"]["took_over"] == HELD_AT


@pytest.mark.parametrize("stage", FAKED)
def test_a_stage_goes_on_while_its_supervisor_is_killed(make_run: MakeRun, stage: Stage) -> None:
    run = make_run("fakes, cold")
    hold = _run_until_held(run, stage)
    run.strike("supervisor")
    run.wait_for_event("SupervisorStarted", generation=2)
    run.wait_for_event("StageAdopted", round=1, stage=stage, attempt=1)
    hold.unlink()
    run.finish()
    check_all(run)
    assert run.num_events("StageFailed") == 0


def _run_until_held(run: ChaosRun, stage: Stage) -> Path:
    """Begin, and wait until the stage is in its midst; it goes on once the file is deleted."""
    hold = run.path / f"hold_{stage}"
    hold.touch()
    run.begin()
    attempt = run.attempt(1, stage, 1)
    run.wait_for(lambda: count_durable(attempt, stage) == HELD_AT, f"{HELD_AT} are done")
    return hold


BOUNDARY_VICTIMS: list[tuple[Role, ...]] = [
    victims for victims in VICTIMS if "supervisor" in victims and "client" not in victims
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victims", BOUNDARY_VICTIMS, ids="+".join)
def test_a_kill_at_every_boundary(make_run: MakeRun, victims: tuple[Role, ...]) -> None:
    """Right after each event that makes a round or a stage begin or end."""
    draw = random.Random(f"{SEED}/boundary/{victims}")
    run = make_run("fakes, cold")
    run.begin()
    for round in ROUNDS:
        run.wait_for_event("RoundStarted", round=round)
        run.strike(*victims)
        for stage in STAGES:
            run.wait_for_event("StageStarted", round=round, stage=stage)
            if "stage" not in victims:
                run.strike(*victims)
            run.wait_for_event("StageFinished", round=round, stage=stage)
            time.sleep(draw.choice([0.0, 0.0, 0.01]))
            run.strike(*victims)
        run.wait_for_event("RoundFinished", round=round)
        run.strike(*victims)
    run.finish()
    check_all(run)


def test_one_rank_of_two_is_killed(make_run: MakeRun) -> None:
    draw = random.Random(f"{SEED}/rank")
    run = make_run("models, two ranks")
    count = draw.randrange(1, run.reference.num_attempt_events(1, "train") - 2)
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="train")
    journal = run.attempt(1, "train", 1).events
    run.wait_for(
        lambda: journal.exists() and journal.read_bytes().count(b"\n") >= count, "the moment"
    )
    ranks = of_role(run.processes(), "rank")
    assert len(ranks) == 2
    print(f"seed {SEED}: one of two ranks after {count} events")  # noqa: T201
    assert draw.choice(ranks).signal(signal.SIGKILL)
    run.finish()
    failed = [event["stage"] for event in run.events if event["type"] == "StageFailed"]
    assert failed == ["train"]
    check_all(run)


def test_a_client_that_dies_while_it_creates_a_run_leaves_a_whole_one_or_none(
    make_run: MakeRun,
) -> None:
    draw = random.Random(f"{SEED}/creation")
    run = make_run()
    shutil.rmtree(run.path)
    create = ("run", str(run.reference.path / "run.toml"), "--no-ui", "--name", NAME)
    run.start(*create)
    run.wait_for(lambda: list(run.runs.glob(".*creating*")), "it is being created", revive=False)
    time.sleep(draw.random() * CREATION_S)
    run.strike("client")
    run.wait_for(
        lambda: not of_role(run.processes(), "other"),
        "its helper leaves",
        revive=False,
        poll_s=0.05,
    )
    if not run.path.exists():
        assert run.command("status", NAME)[0] == ExitCode.NO_SUCH_RUN
        run.start(*create)
        run.wait_for(run.path.exists, "the run is created", revive=False)
    run.finish()
    check_all(run)

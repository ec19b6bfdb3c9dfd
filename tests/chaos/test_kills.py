"""kill -9 at moments drawn from the seed: the run goes on and ends with the same bits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from halos_backend.events import STAGES

from tests.chaos.chaos_run import ChaosRun
from tests.chaos.invariants import check_all
from tests.chaos.schedule import (
    CASES,
    IN_A_ROW,
    ROUNDS,
    SEED,
    VICTIMS,
    kills_in_a_row,
    single_kill,
)
from tests.chaos.victims import Role

MakeRun = Callable[..., ChaosRun]
ROWS = max(1, CASES // 10)


@pytest.mark.parametrize("number", range(CASES))
def test_one_kill_anywhere(make_run: MakeRun, number: int) -> None:
    kill = single_kill(SEED, number)
    print(f"seed {SEED} case {number}: {kill}")  # noqa: T201
    run = make_run()
    run.begin()
    run.reach(kill)
    run.strike(*kill.victims)
    run.finish()
    check_all(run)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROWS))
def test_ten_kills_in_one_run(make_run: MakeRun, number: int) -> None:
    run = make_run()
    run.begin()
    for kill in kills_in_a_row(SEED, number, IN_A_ROW):
        print(f"seed {SEED} row {number}: {kill}")  # noqa: T201
        run.reach(kill)
        run.strike(*kill.victims)
    run.finish()
    assert run.num_kills == IN_A_ROW
    check_all(run)


BOUNDARY_VICTIMS: list[tuple[Role, ...]] = [
    victims for victims in VICTIMS if "supervisor" in victims and "client" not in victims
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victims", BOUNDARY_VICTIMS, ids="+".join)
def test_a_kill_at_every_boundary(make_run: MakeRun, victims: tuple[Role, ...]) -> None:
    """Right after each event that makes a round or a stage begin or end."""
    draw = random.Random(f"{SEED}/boundary/{victims}")
    run = make_run()
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


@pytest.mark.parametrize("stage", ["train"])
def test_one_rank_of_two_is_killed(make_run: MakeRun, stage: str) -> None:
    draw = random.Random(f"{SEED}/rank")
    run = make_run("two ranks")
    run.begin()
    round = draw.choice(ROUNDS)
    started = run.wait_for_event("StageStarted", round=round, stage=stage)
    events = run.attempt(round, "train", started["attempt"]) / "events.jsonl"
    run.wait_for(events.exists, "the ranks are up")
    ranks = [process for process in run.processes() if process.role == "rank"]
    time.sleep(draw.random() * 1.5)
    print(f"seed {SEED}: one of {len(ranks)} ranks in round {round}")  # noqa: T201
    victim = draw.choice(ranks)
    assert victim.signal(9)
    run.num_kills += 1
    run.finish()
    check_all(run)

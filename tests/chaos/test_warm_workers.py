"""Stages that stay between rounds are killed: the run ends with the bits of a cold one."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import msgspec
import pytest
from halos_backend.events import STAGES, ProcessIdentity, Stage
from halos_backend.store.handover import read_task
from halos_backend.store.identity import is_alive
from halos_backend.store.run_dir import RunDir

from tests.chaos.chaos_run import ChaosRun
from tests.chaos.invariants import check_all
from tests.chaos.journal import Event
from tests.chaos.reference import Reference
from tests.chaos.schedule import CASES, IN_A_ROW, SEED, kills_in_a_row, single_kill
from tests.chaos.victims import Found

MakeRun = Callable[..., ChaosRun]
OFFSET = 1000
"""Other moments than those of the cold runs."""


def test_an_undisturbed_warm_run_ends_with_the_bits_of_a_cold_one(
    make_run: MakeRun, reference: Reference
) -> None:
    run = make_run("warm")
    assert run.reference.weights == reference.weights
    run.begin()
    run.finish()
    check_all(run)
    started = [e for e in run.events if e["type"] == "StageStarted"]
    pids = {
        stage: {e["process"]["pid"] for e in started if e["stage"] == stage} for stage in STAGES
    }
    assert all(len(found) == 1 for found in pids.values()), "one process a stage for both rounds"


@pytest.mark.parametrize("number", range(max(1, CASES // 2)))
def test_one_kill_anywhere(make_run: MakeRun, number: int) -> None:
    """A stage that is struck dies with all workers, the idle ones too."""
    kill = single_kill(SEED, OFFSET + number)
    print(f"seed {SEED} case {OFFSET + number}: {kill}")  # noqa: T201
    run = make_run("warm")
    run.begin()
    run.reach(kill)
    run.strike(*kill.victims)
    run.finish()
    check_all(run)


@pytest.mark.timeout(600)
def test_ten_kills_in_one_run(make_run: MakeRun) -> None:
    run = make_run("warm")
    run.begin()
    for kill in kills_in_a_row(SEED, OFFSET, IN_A_ROW):
        print(f"seed {SEED} row {OFFSET}: {kill}")  # noqa: T201
        run.reach(kill)
        run.strike(*kill.victims)
    run.finish()
    assert run.num_kills == IN_A_ROW
    check_all(run)


@pytest.mark.parametrize("stage", STAGES)
def test_an_idle_worker_is_killed(make_run: MakeRun, stage: Stage) -> None:
    run = make_run("warm")
    run.begin()
    run.wait_for_event("StageFinished", round=1, stage=stage)
    (worker,) = workers(run, stage)
    run.keep_journal()
    worker.signal(signal.SIGKILL)
    run.finish()
    check_all(run)


def test_programs_that_have_had_no_work_yet_are_killed_while_they_import(make_run: MakeRun) -> None:
    run = make_run("warm")
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    for stage in ("label", "train"):
        early = run.wait_for(lambda stage=stage: workers(run, stage), f"{stage} is there")
        early[0].signal(signal.SIGKILL)
    run.finish()
    check_all(run)


def test_programs_that_have_had_no_work_yet_outlive_a_killed_supervisor(make_run: MakeRun) -> None:
    run = make_run("warm")
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    run.wait_for(lambda: len(workers(run)) == len(STAGES), "all are there")
    before = {stage: workers(run, stage)[0].pid for stage in STAGES}
    run.strike("supervisor")
    run.finish()
    check_all(run)
    later = [e for e in run.events if e["type"] == "StageStarted" and e["round"] == 2]
    assert {e["stage"]: e["process"]["pid"] for e in later} == before


def test_workers_outlive_a_killed_supervisor_and_are_taken_over(make_run: MakeRun) -> None:
    run = make_run("warm")
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="train")
    before = {stage: workers(run, stage)[0].pid for stage in STAGES}
    run.strike("supervisor")
    run.finish()
    check_all(run)
    later = [e for e in run.events if e["type"] == "StageStarted" and e["round"] == 2]
    assert {e["stage"]: e["process"]["pid"] for e in later} == before


def test_workers_leave_when_the_run_pauses(make_run: MakeRun) -> None:
    run = make_run("warm")
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    code, said = run.command("pause", "run", "--wait")
    assert code == 6, said
    run.wait_for(lambda: not run.in_charge(), "all leave", revive=False)
    for stage in STAGES:
        assert read_task(RunDir(run.path).worker(stage).task) is None
    run.begin()
    run.finish()
    check_all(run)


@pytest.mark.timeout(600)
def test_supervisor_and_a_worker_die_at_moments_of_chance(make_run: MakeRun) -> None:
    """Between the hand-over of a task and its record, in the record, in the end that is told."""
    draw = random.Random(f"{SEED}/warm")
    run = make_run("warm")
    run.begin()
    for round in (1, 2):
        for stage in STAGES:
            run.wait_for_event("StageStarted", round=round, stage=stage)
            time.sleep(draw.random() * 0.3)
            run.strike("supervisor")
            for worker in draw.sample(workers(run), k=min(1, len(workers(run)))):
                worker.signal(signal.SIGKILL)
    run.finish()
    check_all(run)
    assert not any(is_alive(event_process(e)) for e in run.events if e["type"] == "StageStarted")


def workers(run: ChaosRun, stage: Stage | None = None) -> list[Found]:
    """The first processes of the living workers."""
    suffix = b"/workers/" if stage is None else f"/workers/{stage}".encode()
    return [
        process
        for process in run.processes()
        if process.role == "stage" and process.attempt is not None and suffix in process.attempt
    ]


def event_process(event: Event) -> ProcessIdentity:

    return msgspec.convert(event["process"], ProcessIdentity)

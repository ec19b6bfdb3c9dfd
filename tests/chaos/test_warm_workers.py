"""Stages that stay between rounds are killed: the run ends with the bits of a cold one."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from halos_backend.events import STAGES, ProcessIdentity, Stage
from halos_backend.store.handover import read_task
from halos_backend.store.identity import is_alive

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.journal import Event
from tests.support.reference import Reference, get_reference
from tests.support.schedule import ROUNDS, SEED
from tests.support.victims import Found

MakeRun = Callable[..., ChaosRun]


def test_an_undisturbed_warm_run_ends_with_the_bits_of_a_cold_one(
    shared: Path, reference: Reference
) -> None:
    cold = get_reference(shared, "models, cold")
    assert reference.weights == cold.weights
    started = [e for e in reference.events if e["type"] == "StageStarted"]
    pids = {
        stage: {e["process"]["pid"] for e in started if e["stage"] == stage} for stage in STAGES
    }
    assert all(len(found) == 1 for found in pids.values()), "one process a stage for both rounds"


@pytest.mark.parametrize("stage", STAGES)
def test_an_idle_worker_is_killed(make_run: MakeRun, stage: Stage) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageFinished", round=1, stage=stage)
    (worker,) = workers(run, stage)
    run.keep_journal()
    worker.signal(signal.SIGKILL)
    run.finish()
    check_all(run)


def test_programs_that_have_had_no_work_yet_are_killed_while_they_import(make_run: MakeRun) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    for stage in ("label", "train"):
        early = run.wait_for(lambda stage=stage: workers(run, stage), f"{stage} is there")
        early[0].signal(signal.SIGKILL)
    run.finish()
    check_all(run)


def test_programs_that_have_had_no_work_yet_outlive_a_killed_supervisor(make_run: MakeRun) -> None:
    run = make_run()
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
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="train")
    before = {stage: workers(run, stage)[0].pid for stage in STAGES}
    run.strike("supervisor")
    run.finish()
    check_all(run)
    later = [e for e in run.events if e["type"] == "StageStarted" and e["round"] == 2]
    assert {e["stage"]: e["process"]["pid"] for e in later} == before


def test_workers_leave_when_the_run_pauses(make_run: MakeRun) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    code, said = run.command("pause", "run", "--wait")
    assert code == 6, said
    run.wait_until_all_leave()
    for stage in STAGES:
        assert read_task(run.dir.worker(stage).task) is None
    run.begin()
    run.finish()
    check_all(run)


@pytest.mark.timeout(600)
def test_supervisor_and_a_worker_die_at_moments_of_chance(make_run: MakeRun) -> None:
    """Between the hand-over of a task and its record, in the record, in the end that is told."""
    draw = random.Random(f"{SEED}/warm")
    run = make_run()
    run.begin()
    for round in ROUNDS:
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
        if process.role in ("stage", "idle") and suffix in (process.attempt or b"")
    ]


def event_process(event: Event) -> ProcessIdentity:

    return msgspec.convert(event["process"], ProcessIdentity)

"""Signals other than kill -9: told to stop, hung up, stopped for a while."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from halos_backend.errors import ExitCode

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.reference import NAME
from tests.support.victims import Role, of_role

MakeRun = Callable[..., ChaosRun]
HEARTBEATS = 4.0
"""Seconds for which a supervisor is stopped; its heart beats once a second."""
HUNG_UP: dict[str, Role] = {"sample": "guardian", "label": "supervisor", "train": "client"}

START_SUPERVISOR = """
import sys
from pathlib import Path
from halos_backend.errors import HalosError
from halos_backend.store.run_dir import RunDir
from halos_backend.client.start import start_supervisor
try:
    start_supervisor(RunDir(Path(sys.argv[1])))
except HalosError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_hangup_stops_nothing(make_run: MakeRun) -> None:
    run = make_run()
    client = run.begin()
    for stage, role in HUNG_UP.items():
        run.wait_for_event("StageStarted", round=1, stage=stage)
        assert run.strike(role, number=signal.SIGHUP)
    assert client.wait(timeout=30) == ExitCode.UNFINISHED
    run.finish()
    assert run.num_events("StageFailed") == run.num_events("RunPaused") == 0
    assert run.num_events("SupervisorStarted") == 1
    check_all(run)


def test_sigterm_to_the_client_detaches(make_run: MakeRun) -> None:
    run = make_run()
    client = run.begin()
    run.wait_for_event("StageStarted", round=1, stage="label")
    assert run.strike("client", number=signal.SIGTERM)
    assert client.wait(timeout=30) == ExitCode.UNFINISHED
    run.finish()
    assert run.num_events("StageFailed") == run.num_events("RunPaused") == 0
    check_all(run)


@pytest.mark.parametrize("role", ["guardian", "supervisor"])
def test_sigterm_pauses_the_run_until_its_owner_goes_on(make_run: MakeRun, role: Role) -> None:
    run = make_run()
    client = run.begin()
    run.wait_for_event("StageStarted", round=1, stage="train")
    assert run.strike(role, number=signal.SIGTERM)
    assert client.wait(timeout=60) == ExitCode.UNFINISHED
    run.wait_until_all_leave()
    assert run.state.status == "paused"
    run.begin()
    run.finish()
    check_all(run)


def test_a_stopped_supervisor_is_shown_as_stalled_and_not_replaced(make_run: MakeRun) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    (stopped,) = run.strike("supervisor", number=signal.SIGSTOP)
    run.wait_for(lambda: "stalled" in run.command("status", NAME)[1], "it is shown", revive=False)
    code, said = run.command("resume", NAME, "--detach")
    assert code == ExitCode.RUN_IN_USE, said
    second = subprocess.run(
        [sys.executable, "-c", START_SUPERVISOR, str(run.path)],
        env=run.environment(),
        stdout=subprocess.PIPE,
        timeout=60,
    )
    assert second.returncode == ExitCode.RUN_IN_USE, second.stdout
    assert of_role(run.processes(), "supervisor") == [stopped]
    assert stopped.signal(signal.SIGCONT)
    run.finish()
    assert run.num_events("SupervisorStarted") == 1
    check_all(run)


def test_a_stopped_guardian_stops_nothing(make_run: MakeRun) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="sample")
    (stopped,) = run.strike("guardian", number=signal.SIGSTOP)
    run.wait_for_event("StageFinished", round=1, stage="label")
    assert stopped.signal(signal.SIGCONT)
    run.finish()
    check_all(run)


def test_a_stopped_stage_is_reported_and_started_again(make_run: MakeRun) -> None:
    run = make_run("fakes, impatient")
    run.begin()
    started = run.wait_for_event("StageStarted", round=1, stage="label")
    rewards = run.attempt(1, "label", started["attempt"]).rewards
    run.wait_for(lambda: rewards.exists() and rewards.read_bytes().count(b"\n") > 3, "rewards")
    assert run.strike("stage", number=signal.SIGSTOP)
    run.wait_for_event("StageStalled", round=1, stage="label", attempt=started["attempt"])
    failed = run.wait_for_event("StageFailed", round=1, stage="label")
    assert failed["cause"] == "stalled"
    assert failed["durable"] > 3
    run.finish()
    check_all(run)

"""Several at once: one supervisor wins, the others are refused by name, and the run completes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from halos_backend.errors import ExitCode
from halos_backend.supervisor.processes.guardian import __file__ as GUARDIAN

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.victims import of_role

MakeRun = Callable[..., ChaosRun]
MANY = 6


def _supervise(run: ChaosRun) -> list[str]:
    return [sys.executable, "-m", "halos_backend.supervisor", "--run-dir", str(run.path)]


def _check_refused(run: ChaosRun, losers: list[subprocess.Popen[bytes]]) -> None:
    assert [loser.wait(timeout=60) for loser in losers] == [ExitCode.RUN_IN_USE] * len(losers)
    assert run.log.count("supervised already") == len(losers)


def test_one_of_many_supervisors_wins(make_run: MakeRun) -> None:
    run = make_run()
    started = [run.launch(_supervise(run)) for _ in range(MANY)]
    run.wait_for(lambda: sum(child.poll() is None for child in started) <= 1, "the others leave")
    winners = [child for child in started if child.poll() in (None, ExitCode.COMPLETED)]
    assert len(winners) == 1
    _check_refused(run, [child for child in started if child not in winners])
    assert run.start("watch", "run").wait(timeout=120) == ExitCode.COMPLETED
    assert winners[0].wait(timeout=60) == ExitCode.COMPLETED
    run.finish()
    assert run.num_events("SupervisorStarted") == 1
    check_all(run)


def test_many_clients_that_revive_a_run_at_once(make_run: MakeRun) -> None:
    run = make_run()
    run.begin()
    run.wait_for_event("StageStarted", round=1, stage="label")
    run.strike("client", "guardian", "supervisor")
    clients = [run.begin() for _ in range(MANY)]
    codes = [client.wait(timeout=240) for client in clients]
    assert set(codes) <= {ExitCode.COMPLETED, ExitCode.RUN_IN_USE}, run.evidence()
    assert ExitCode.COMPLETED in codes
    run.finish()
    assert run.num_events("SupervisorStarted") == 2
    check_all(run)


def test_of_two_guardians_one_leaves(make_run: MakeRun) -> None:
    run = make_run()
    guard = [sys.executable, "-I", "-S", GUARDIAN, "--run-dir", str(run.path), "--"]
    started = [run.launch([*guard, *_supervise(run)]) for _ in range(2)]
    run.wait_for(lambda: any(child.poll() is not None for child in started), "one leaves")
    (loser,) = [child for child in started if child.poll() is not None]
    _check_refused(run, [loser])
    run.wait_for_event("StageStarted", round=1, stage="label")
    assert len(of_role(run.processes(), "guardian")) == 1
    run.strike("supervisor")
    assert run.start("watch", "run").wait(timeout=120) == ExitCode.COMPLETED
    run.finish()
    check_all(run)

"""A person at the other end of an SSH connection that is cut in the middle of a run."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import time
from collections.abc import Callable

import asyncssh
from halos_backend.errors import ExitCode

from tests.support.chaos_run import ChaosRun
from tests.support.invariants import check_all
from tests.support.reference import NAME
from tests.support.ssh_server import Sessions, loopback

MakeRun = Callable[..., ChaosRun]
DEADLINE_S = 120.0
SIZE = (100, 30)


def test_a_run_outlives_the_connection_that_started_it(make_run: MakeRun) -> None:
    run = make_run()
    shutil.rmtree(run.path)  # this run is created by the command of a person
    asyncio.run(_start_and_be_cut_off(run))
    run.finish()
    assert run.num_events("StageFailed") == run.num_events("RunPaused") == 0
    assert run.num_events("SupervisorStarted") == 1
    check_all(run)


async def _start_and_be_cut_off(run: ChaosRun) -> None:
    sessions = Sessions(run.environment())
    async with loopback(sessions) as connect:
        first = await connect()
        config = str(run.reference.path / "run.toml")
        terminal = await _open(first, run, "run", config, "--name", NAME, "--no-ui")
        await _until(lambda: _has_begun(run))
        shown = await asyncio.wait_for(terminal.stdout.read(4096), DEADLINE_S)
        assert b"\x1b[" in shown, "a terminal gets the live view"
        first.abort()
        await _until(lambda: sessions.started[0].poll() is not None)
        assert run.state.status == "running"

        second = await connect()
        watching = await _open(second, run, "watch", NAME)
        end = await asyncio.wait_for(watching.wait(), DEADLINE_S)
        assert end.exit_status == ExitCode.COMPLETED
        assert b"completed" in bytes(end.stdout or b"")
        second.close()
        await second.wait_closed()


async def _open(
    connection: asyncssh.SSHClientConnection, run: ChaosRun, *arguments: str
) -> asyncssh.SSHClientProcess[bytes]:
    command = [sys.executable, "-m", "halos_tui", *arguments, "--runs-dir", str(run.runs)]
    return await connection.create_process(
        shlex.join(command), term_type="xterm-256color", term_size=SIZE, encoding=None
    )


def _has_begun(run: ChaosRun) -> bool:
    return (run.path / "events.jsonl").exists() and any(
        event["type"] == "StageStarted" and event["stage"] == "label" for event in run.events
    )


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)

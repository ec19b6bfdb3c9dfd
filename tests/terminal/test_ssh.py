"""A person whose SSH connection is cut while the app is open."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable

import asyncssh

from tests.support.demo_run import DemoRun
from tests.support.emulator import Emulator
from tests.support.ssh_server import Sessions, loopback
from tests.support.waiting import DEADLINE_S

COLUMNS, LINES = 100, 30


def test_a_cut_connection_ends_the_app_and_a_new_one_shows_the_run_again(long_run: DemoRun) -> None:
    asyncio.run(_be_cut_off_and_come_back(long_run))
    assert long_run.apps == []
    long_run.goes_on()


async def _be_cut_off_and_come_back(run: DemoRun) -> None:
    sessions = Sessions(run.environment)
    async with loopback(sessions) as connect:
        first = await connect()
        await _shows(await _open(first, run), run.name, "running")
        first.abort()
        await _until(lambda: sessions.started[0].poll() is not None, "the app ends")

        second = await connect()
        app = await _open(second, run)
        await _shows(app, run.name, "running")
        app.stdin.write(b"q")
        await asyncio.wait_for(app.wait(), DEADLINE_S)
        second.close()
        await second.wait_closed()


async def _open(
    connection: asyncssh.SSHClientConnection, run: DemoRun
) -> asyncssh.SSHClientProcess[bytes]:
    command = [sys.executable, "-m", "halos_tui", "attach", run.name]
    return await connection.create_process(
        shlex.join(command), term_type="xterm-256color", term_size=(COLUMNS, LINES), encoding=None
    )


async def _shows(app: asyncssh.SSHClientProcess[bytes], *texts: str) -> None:
    emulator = Emulator(COLUMNS, LINES)
    end = time.monotonic() + DEADLINE_S
    while not all(text in emulator.text for text in texts):
        assert time.monotonic() < end, f"no {texts} on the screen:\n{emulator.text}"
        emulator.feed(await asyncio.wait_for(app.stdout.read(65536), DEADLINE_S))


async def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.02)

"""An SSH server on the loopback interface whose sessions have a real terminal, as sshd's do.

When the connection goes, the terminal hangs up: the kernel sends SIGHUP to who runs there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping

import asyncssh

TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
BLOCK = 65536


class Sessions:
    """What the server's sessions ran."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self.started: list[subprocess.Popen[bytes]] = []

    async def serve(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run the session's command on a terminal until it ends or the connection is gone."""
        ours, theirs = os.openpty()
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", TAKE_TERMINAL, *shlex.split(session.command or "")],
            env={**self._environment, "TERM": session.term_type or "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.started.append(child)
        os.set_blocking(ours, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, _pass_on, ours, session)
        typing = asyncio.create_task(_type(ours, session))
        try:
            while child.poll() is None and not session.is_closing():
                await asyncio.sleep(0.02)
            if child.returncode is not None:
                _pass_on(ours, session)
                session.exit(child.returncode)
        finally:
            typing.cancel()
            loop.remove_reader(ours)
            os.close(ours)


def _pass_on(ours: int, session: asyncssh.SSHServerProcess[bytes]) -> None:
    """What the terminal shows goes to the client. EIO: nobody has the terminal open any more."""
    with contextlib.suppress(OSError):
        session.stdout.write(os.read(ours, BLOCK))


async def _type(ours: int, session: asyncssh.SSHServerProcess[bytes]) -> None:
    """What the client types goes to the terminal, until the client is gone."""
    with contextlib.suppress(asyncssh.Error, OSError):
        while typed := await session.stdin.read(BLOCK):
            os.write(ours, typed)


@contextlib.asynccontextmanager
async def loopback(sessions: Sessions) -> AsyncIterator[Connect]:
    """A server with keys of its own, and the way to connect to it."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    user_key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=asyncssh.import_authorized_keys(
            user_key.export_public_key().decode()
        ),
        process_factory=sessions.serve,
        encoding=None,
        line_editor=False,
    )
    try:
        yield Connect(server.get_port(), host_key, user_key)
    finally:
        server.close()
        await server.wait_closed()


class Connect:
    """Connections that trust this server alone and bring its user's key."""

    def __init__(self, port: int, host_key: asyncssh.SSHKey, user_key: asyncssh.SSHKey) -> None:
        self._port = port
        self._host_key = host_key
        self._user_key = user_key

    async def __call__(self) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            "127.0.0.1",
            self._port,
            config=None,
            username="owner",
            client_keys=[self._user_key],
            known_hosts=([self._host_key.convert_to_public()], [], []),
        )

"""Gives tests an interpreter whose programs of ours begin with their libraries imported."""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.waiting import wait_for

FOLDER = Path(__file__).parent


@functools.cache
def forking_python() -> str:
    """The path of what stands for `sys.executable`; its server is started with the first use.

    For tests of what programs do. Where it counts how a process begins, is found, or dies, the
    interpreter itself is to start it.
    """
    folder = tempfile.TemporaryDirectory(prefix="forks-", dir="/tmp")  # sockets have short paths
    address, path = Path(folder.name) / "socket", Path(folder.name) / "python"
    client = [sys.executable, "-I", "-S", str(FOLDER / "fork_client.py"), sys.executable]
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*client, str(address), str(path)])} "$@"\n')
    path.chmod(0o700)
    log = Path(folder.name) / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, str(FOLDER / "fork_server.py"), str(address)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def close() -> None:
        server.kill()
        server.wait()
        folder.cleanup()

    atexit.register(close)
    wait_for(lambda: address.exists() or server.poll() is not None)
    assert address.exists(), log.read_text()
    return str(path)

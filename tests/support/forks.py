"""Gives tests an interpreter whose programs of ours begin with their libraries imported."""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from halos_tui.commands import NAME, VERBS
from tests.support.fork_client import KILLS
from tests.support.waiting import wait_for

FOLDER = Path(__file__).parent
COMMANDS = (
    *(f"halos_tui.cli.{module}" for module in ("main", "starting", "following", *VERBS.values())),
    *("halos_tui.headless.lines", "halos_tui.new_run.checking", "halos_tui.new_run.create"),
    *("halos_backend.client.remove", "halos_backend.config.presets", "halos_backend.doctor"),
    *("rich.console", "halos_backend.supervisor.__main__"),
)
"""What the verbs import, and the supervisors: a tenth of a second to import, and quick to fork."""
OURS = (
    *COMMANDS,
    *("datasets", "torch.distributed.run"),
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)
"""What every stage imports, and the models and tokenizers that the tests are full of."""


@functools.cache
def forking_python(
    python: str = sys.executable, modules: tuple[str, ...] = OURS, import_from: str | None = None
) -> str:
    """The path of what stands for `python`; its server is started with the first use.

    For tests of what programs do. Where it counts how a process begins, is found, or dies, the
    interpreter itself is to start it. `import_from` is the PYTHONPATH of the programs.
    """
    folder = tempfile.TemporaryDirectory(prefix="forks-", dir="/tmp")  # sockets have short paths
    address, path = Path(folder.name) / "socket", Path(folder.name) / "python"
    client = [sys.executable, "-I", "-S", str(FOLDER / "fork_client.py"), python]
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*client, str(address), str(path)])} "$@"\n')
    path.chmod(0o700)
    if (script := Path(python).with_name(NAME)).is_file():
        path.with_name(NAME).symlink_to(script)  # messages name it as the person calls it
    log = Path(folder.name) / "log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if import_from is not None:
        environment["PYTHONPATH"] = import_from
    with log.open("wb") as output:
        server = subprocess.Popen(
            [python, "-P", str(FOLDER / "fork_server.py"), str(address), *modules],
            env=environment,
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


def forking(module: str) -> tuple[str, str, str]:
    """How to start a module of ours that needs no libraries of models."""
    return forking_python(modules=COMMANDS), "-m", module


def kill_fork(process: subprocess.Popen[Any]) -> None:
    """Kill a program that `forking_python` started, and return once it is gone."""
    process.send_signal(KILLS)
    assert process.wait() == -signal.SIGKILL

"""The settings of the embedded demo, whose models are built on first use by another process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

import msgspec
from halos_backend.errors import ExitCode, HalosError, UsageError
from halos_backend.supervisor.environment import importable_environment

from halos_tui.new_runs.checking import Report


def demo_table(loss: str, rounds: int, report: Report) -> dict[str, Any]:
    """The tables of the demo's run file. Builds its models if need be.

    Raises UsageError for a loss that the demo has not, HalosError where it cannot be set up.
    """
    module = ["-m", "halos_backend.embedded.demo"]
    command = [sys.executable, *module, "--loss", loss, "--rounds", str(rounds)]
    last = ""
    with (
        tempfile.TemporaryFile() as errors,  # a pipe that nobody drains would stop the child
        subprocess.Popen(
            command,
            env=importable_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child,
    ):
        for line in child.stdout or ():
            match line.split(maxsplit=3):
                case ["progress", done, total, what]:
                    report(what.strip(), int(done), int(total))
                case _:
                    last = line  # its settings come last
        child.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if child.returncode == ExitCode.USAGE:
        raise UsageError(said)
    if child.returncode != 0:
        raise HalosError(f"the demo could not be set up (exit code {child.returncode}):\n{said}")
    table: dict[str, Any] = msgspec.json.decode(last)
    return table

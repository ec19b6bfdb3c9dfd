"""The settings of the embedded demo, whose models are built on first use by another process."""

from __future__ import annotations

import subprocess
import tempfile
from typing import Any

import msgspec
from halos_backend.errors import ExitCode, HalosError, UsageError
from halos_backend.interpreters.programs import program, program_environment

from halos_tui.new_runs.checking import Report


def demo_table(loss: str, rounds: int, report: Report) -> dict[str, Any]:
    """The tables of the demo's run file. Builds its models if need be.

    Raises UsageError for a loss that the demo has not, HalosError where it cannot be set up.
    """
    last = ""
    with (
        tempfile.TemporaryFile() as errors,  # a pipe that nobody drains would stop the child
        subprocess.Popen(
            program("halos_backend.embedded.demo", "--loss", loss, "--rounds", rounds),
            cwd="/",
            env=program_environment(),
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

"""Starts the command line, for all tests; each gives the environment and the folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent
PROGRAM = (sys.executable, "-m", "halos_tui")
WITH_FAKE_STAGES = (sys.executable, str(SUPPORT / "drive_halos.py"))
"""Its supervisors have `fake_stage.py` for every stage."""
TIMEOUT_S = 240.0


def start_halos(
    *arguments: str,
    environment: Mapping[str, str],
    program: Sequence[str] = PROGRAM,
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """A command that may run on; its outputs are pipes of text."""
    return subprocess.Popen(
        [*program, *arguments],
        env=dict(environment),
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_halos(
    *arguments: str, stdin: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A command to its end, which is killed after the deadline. It reads `stdin`."""
    reads = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    with start_halos(*arguments, stdin=reads, **options) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

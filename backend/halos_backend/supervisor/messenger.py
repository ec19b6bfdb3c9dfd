"""Runs one notification command, and ends it when it is too slow; stands alone because it is a
program.

`notify` runs it by its path, as `python -I -S messenger.py TIMEOUT_S OCCASION -- COMMAND...`: it
outlives the supervisor, which leaves right after what most notifications are about. It imports
nothing of this package. Standard input is the command's, standard error is supervisor.log: a
command that fails is one line there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main() -> int:
    match sys.argv[1:]:
        case [timeout_s, occasion, "--", *command] if command:
            if (problem := run(command, float(timeout_s))) is not None:
                say(f"{command[0]} ({occasion}) {problem}")
            return 0
        case _:
            say("usage: messenger.py TIMEOUT_S OCCASION -- COMMAND...")
            return 2


def run(command: list[str], timeout_s: float) -> str | None:
    """Runs a command to its end or for `timeout_s`; returns what went wrong, or None."""
    try:
        child = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # not reaped yet, so the group is its own
        child.wait()
        return f"was killed: it took more than {timeout_s:g} s"
    if code < 0:
        return f"was killed by signal {-code}"
    return f"ended with exit code {code}" if code else None


def say(text: str) -> None:
    """Writes one line of supervisor.log."""
    try:
        os.write(2, f"notify: {text}\n".encode(errors="replace"))
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())

"""Owns what supervisor, guardian and workers leave for each other: a worker's task, an attempt's
end.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from halos_backend import atomic, clock
from halos_backend.records import BAD_JSON
from halos_backend.store.run_dir import AttemptDir


class Task(msgspec.Struct, frozen=True):
    """Names the attempt that a worker is to execute, by its absolute directory."""

    attempt_dir: str


class End(msgspec.Struct, frozen=True):
    """Says how an attempt's process ended: negative for a signal, None where nobody knows."""

    exit_code: int | None
    t: float = 0.0


def write_task(path: Path, attempt_dir: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic.write_bytes(path, msgspec.json.encode(Task(str(attempt_dir))) + b"\n", durable=False)


def read_task(path: Path) -> Path | None:
    """Returns the attempt's directory; None where there is no task, or none that can be read."""
    try:
        return Path(msgspec.json.decode(path.read_bytes(), type=Task).attempt_dir)
    except (OSError, *BAD_JSON):
        return None


def write_exit_code(attempt: AttemptDir, exit_code: int | None) -> bool:
    """Writes `exit.json` and says whether it could: a disk may be full. The journal says
    the same.
    """
    end = msgspec.json.encode(End(exit_code, clock.now()))
    try:
        atomic.write_bytes(attempt.exit, end + b"\n", durable=False)
    except OSError:
        return False
    return True


def read_exit_code(attempt: AttemptDir) -> int | None:
    """Returns what `exit.json` says; None where there is none, or none that says it."""
    try:
        return msgspec.json.decode(attempt.exit.read_bytes(), type=End).exit_code
    except (OSError, *BAD_JSON):
        return None

"""Owns a worker's task: which attempt it is to execute, handed over in one file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from halos_backend import atomic
from halos_backend.records import BAD_JSON


class Task(msgspec.Struct, frozen=True):
    """One attempt, by its absolute directory."""

    attempt_dir: str


def write_task(path: Path, attempt_dir: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic.write_bytes(path, msgspec.json.encode(Task(str(attempt_dir))) + b"\n", durable=False)


def read_task(path: Path) -> Path | None:
    """The attempt's directory; None where there is no task, or none that can be read."""
    try:
        return Path(msgspec.json.decode(path.read_bytes(), type=Task).attempt_dir)
    except (OSError, *BAD_JSON):
        return None

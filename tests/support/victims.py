"""Finds the processes of one run by what they are, and signals them.

Everything that a case starts carries its mark in the environment, and hands it on.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from halos_backend.events import STAGES
from halos_backend.store.handover import read_task
from halos_backend.store.identity import process_status, send_signal
from halos_backend.store.run_dir import WorkerDir

Role = Literal["client", "guardian", "supervisor", "stage", "idle", "rank", "helper", "other"]
"""`stage` is the first process of one that is at an attempt, `idle` that of one that stays."""

MARK = "HALOS_CHAOS_CASE"
ATTEMPT_TAG = b"HALOS_ATTEMPT_DIR"
WORKERS = "workers"
LAUNCHER = b"torch.distributed.run"
STAGE_MODULES = (*(f"halos_backend.stages.{stage}".encode() for stage in STAGES), LAUNCHER)
SUPERVISOR_MODULES = (b"halos_backend.supervisor", b"halos_backend.supervisor.__main__")


@dataclass(frozen=True)
class Found:
    """A living process; `attempt` is the attempt directory that it works for."""

    pid: int
    parent: int
    start_time: float
    role: Role
    attempt: bytes | None
    arguments: tuple[bytes, ...]

    def signal(self, number: signal.Signals) -> bool:
        """False where it is gone already."""
        return send_signal(self.pid, self.start_time, number)

    @property
    def is_alive(self) -> bool:
        status = process_status(self.pid)
        return status is not None and status.is_alive and status.start_time == self.start_time


def find(mark: str) -> list[Found]:
    """The living processes of a case."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := _look_at(entry, f"{MARK}={mark}".encode())):
            found.append(process)
    tagged = {process.pid for process in found if process.attempt is not None}
    return [_with_rank(process, tagged) for process in found]


def of_role(processes: Iterable[Found], role: Role) -> list[Found]:
    return [process for process in processes if process.role == role]


def without_unborn(processes: Iterable[Found]) -> list[Found]:
    """Leaves out children of supervisors that look like their parents: they have yet to execute
    their own programs.
    """
    found = list(processes)
    supervisors = {process.pid for process in of_role(found, "supervisor")}
    return [p for p in found if p.role != "supervisor" or p.parent not in supervisors]


def _look_at(entry: Path, mark: bytes) -> Found | None:
    try:
        environment = (entry / "environ").read_bytes().split(b"\0")
        if mark not in environment:
            return None
        arguments = tuple((entry / "cmdline").read_bytes().split(b"\0")[:-1])
    except OSError:
        return None
    status = process_status(int(entry.name))
    if status is None or not status.is_alive:
        return None
    attempt = next(
        (value for name, _, value in (item.partition(b"=") for item in environment)
         if name == ATTEMPT_TAG),
        None,
    )  # fmt: skip
    role = _role(arguments) if attempt is None else _role_in_stage(arguments, attempt)
    return Found(status.pid, status.parent, status.start_time, role, attempt, arguments)


def _role(arguments: tuple[bytes, ...]) -> Role:
    if any(Path(argument.decode(errors="replace")).name == "guardian.py" for argument in arguments):
        return "guardian"
    module = _module(arguments)
    if module in SUPERVISOR_MODULES:
        return "supervisor"
    if module == b"halos_tui":
        return "client"
    return "other"


def _role_in_stage(arguments: tuple[bytes, ...], tag: bytes) -> Role:
    if _module(arguments) not in STAGE_MODULES:
        return "helper"
    return "idle" if attempt_of(tag.decode()) is None else "stage"


def attempt_of(tag: str) -> str | None:
    """The attempt that processes of this tag are at; None for a worker that waits for one."""
    if f"/{WORKERS}/" not in tag:
        return tag
    task = read_task(WorkerDir(Path(tag)).task)
    return None if task is None else str(task)


def _module(arguments: tuple[bytes, ...]) -> bytes:
    return next((name for flag, name in pairwise(arguments) if flag == b"-m"), b"")


def _with_rank(process: Found, tagged: set[int]) -> Found:
    """What a launcher started is a rank, not the stage's first process."""
    if process.role != "stage" or process.parent not in tagged:
        return process
    return Found(
        process.pid, process.parent, process.start_time, "rank", process.attempt, process.arguments
    )

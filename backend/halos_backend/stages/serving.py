"""A stage that stays: it executes attempt after attempt from its inbox, its models warm in between.

Nothing that matters lives in it. It leaves after an attempt that failed, when its memory has grown,
when it is told to, and when no supervisor has been there for a while.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psutil

from halos_backend.errors import ExitCode
from halos_backend.stages.presence import Presence
from halos_backend.store.handover import read_task, tell_exit_code
from halos_backend.store.run_dir import AttemptDir, RunDir, WorkerDir, run_containing

POLL_S = 0.01
GROWTH_LIMIT = 1.5
"""A worker whose memory has grown by this factor since its second attempt is replaced."""
GROWTH_FLOOR_BYTES = 1 << 30
"""Less growth than this is none."""


def serve(
    path: Path, execute: Callable[[AttemptDir], ExitCode], park: Callable[[], None]
) -> NoReturn:
    """Execute attempts as they come. `park` gives GPU memory back after each of them."""
    worker, supervisor = WorkerDir(path), Presence(RunDir(run_containing(path)))
    memory = Memory()
    while True:
        task = read_task(worker.task)
        if task is None:
            if supervisor.is_gone():
                _leave(ExitCode.COMPLETED)
            time.sleep(POLL_S)
            continue
        attempt = AttemptDir(task)
        _redirect(attempt.log)
        os.chdir(attempt.path)
        code = execute(attempt)
        park()
        _flush()
        _redirect(worker.log)
        os.chdir(path)
        worker.task.unlink(missing_ok=True)  # before its end is told: the next task may follow
        tell_exit_code(attempt, code)
        give_back_memory()
        if code != ExitCode.COMPLETED or memory.has_grown():
            _leave(code)


class Memory:
    """What stays resident between attempts; the first ones load what is kept."""

    def __init__(self) -> None:
        self._readings: list[int] = []

    def has_grown(self) -> bool:
        self._readings.append(resident_bytes())
        if len(self._readings) < 3:
            return False
        usual, now = self._readings[1], self._readings[-1]
        return now > GROWTH_LIMIT * usual and now - usual > GROWTH_FLOOR_BYTES


def give_back_memory() -> None:
    """What is free of the heap, to the kernel, where the C library is one that keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Of this process."""
    return int(psutil.Process().memory_info().rss)


def _redirect(log: Path) -> None:
    """Standard output and standard error to the end of that file."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _leave(code: ExitCode) -> NoReturn:
    _flush()
    os._exit(code)

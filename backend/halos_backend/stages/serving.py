"""Serves a stage that stays: executes attempt after attempt from its inbox, its models warm in
between.

It may be started before its first attempt is there, and imports its libraries meanwhile. Nothing
that matters lives in it. It leaves after an attempt that failed, when its memory has grown, when it
is told to, and when no supervisor has been there for a while; and says why.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psutil

from halos_backend import clock
from halos_backend.errors import ExitCode
from halos_backend.store.handover import read_task, write_exit_code
from halos_backend.store.run_dir import AttemptDir, RunDir, WorkerDir, run_containing

LOOK_S = 1.0
TIMEOUT_S = 60.0
"""Is how long a heartbeat may stay the same; then the supervisor is gone and was not replaced."""

POLL_S = 0.01
GROWTH_LIMIT = 1.5
"""Is the growth of memory since its second attempt at which a worker is replaced."""
GROWTH_FLOOR_BYTES = 1 << 30
"""Is the least growth that counts."""
CLOSE_TIMEOUT_S = 10.0
"""Is how long engines get to end their own processes before this one leaves them."""
GIB = 1 << 30


class Presence:
    """Says whether a supervisor is there, by its heartbeat and this process's own clock."""

    def __init__(self, run_dir: RunDir) -> None:
        self._heartbeat = run_dir.heartbeat
        self._seen: bytes | None = None
        self._since = self._looked = clock.monotonic()

    def is_gone(self) -> bool:
        now = clock.monotonic()
        if now - self._looked < LOOK_S:
            return False
        if now - self._looked > TIMEOUT_S / 2:
            self._since = now  # we were at work, or stopped, and could not look
        self._looked = now
        try:
            beat = self._heartbeat.read_bytes()
        except OSError:
            beat = b""
        if beat != self._seen:
            self._seen, self._since = beat, now
        return now - self._since > TIMEOUT_S


def serve(
    path: Path,
    execute: Callable[[AttemptDir], ExitCode],
    park: Callable[[], None],
    close: Callable[[], None],
    *,
    preload: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Executes attempts as they come.

    `preload` is called once, before the first of them, `park` gives GPU memory back after each,
    `close` ends what has processes of its own.
    """
    worker, supervisor = WorkerDir(path), Presence(RunDir(run_containing(path)))
    try:
        preload()
    except Exception:  # noqa: BLE001  the first attempt meets it again, and can say so
        traceback.print_exc()
    memory = Memory()
    while True:
        task = read_task(worker.task)
        if task is None:
            if supervisor.is_gone() and _says_farewell(worker, "no supervisor was there any more"):
                _leave(ExitCode.COMPLETED, close)
            time.sleep(POLL_S)
            continue
        attempt = AttemptDir(task)
        code, reason = _execute(worker, attempt, execute, park)
        worker.task.unlink(missing_ok=True)  # before its end is written: the next task may follow
        if not write_exit_code(attempt, code):
            reason = reason or "the disk is full"  # its own end is the attempt's
        give_back_memory()
        if (reason := reason or memory.growth()) and _says_farewell(worker, reason):
            _leave(code, close)


def _execute(
    worker: WorkerDir,
    attempt: AttemptDir,
    execute: Callable[[AttemptDir], ExitCode],
    park: Callable[[], None],
) -> tuple[ExitCode, str]:
    """Returns the attempt's exit code, and why the worker must not stay; empty where it may."""
    try:
        _redirect(attempt.log)
        os.chdir(attempt.path)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201  the worker's own log
        return ExitCode.FAILED, str(error)
    code = execute(attempt)
    reason = "" if code == ExitCode.COMPLETED else f"{_name(attempt)} failed"
    try:
        if not reason:
            park()
    except Exception as error:  # noqa: BLE001  what the attempt has done counts all the same
        traceback.print_exc()
        reason = f"it does not give its memory back: {error}"
    _flush()
    with contextlib.suppress(OSError):
        _redirect(worker.log)
    os.chdir(worker.path)
    return code, reason


class Memory:
    """Watches what stays resident between attempts; the first ones load what is kept."""

    def __init__(self) -> None:
        self._readings: list[int] = []

    def growth(self) -> str:
        """Says in words that memory grew too much; empty where it did not."""
        self._readings.append(resident_bytes())
        if len(self._readings) < 3:
            return ""
        usual, now = self._readings[1], self._readings[-1]
        if now <= GROWTH_LIMIT * usual or now - usual <= GROWTH_FLOOR_BYTES:
            return ""
        return f"its memory has grown from {usual / GIB:.1f} to {now / GIB:.1f} GiB"


def give_back_memory() -> None:
    """Gives what is free of the heap to the kernel, where the C library is one that keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Counts the bytes of this process and of those that it has started: engines of vLLM."""
    own = psutil.Process()
    total = own.memory_info().rss
    for process in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return int(total)


def peak_bytes() -> int:
    """Returns the most that this process had in memory, with what those that it has started have
    now.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    peaks = [int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")]
    now = int(psutil.Process().memory_info().rss)
    return max([now, *peaks]) + resident_bytes() - now


def _redirect(log: Path) -> None:
    """Sends standard output and standard error to the end of that file."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _name(attempt: AttemptDir) -> str:
    return "/".join(attempt.path.parts[-3:])


def _says_farewell(worker: WorkerDir, reason: str) -> bool:
    """Writes why the worker leaves; False where a task came first: whoever hands one over looks for
    a farewell after that.
    """
    with contextlib.suppress(OSError):
        worker.farewell.write_text(reason)
    if read_task(worker.task) is None:
        return True
    worker.farewell.unlink(missing_ok=True)
    return False


def _leave(code: ExitCode, close: Callable[[], None]) -> NoReturn:
    """Exits; engines that hang are left to whoever ends the rest of the tree."""
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(CLOSE_TIMEOUT_S)
    _flush()
    os._exit(code)

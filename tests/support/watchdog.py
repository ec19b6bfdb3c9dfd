"""Watches an event loop, and names the call that blocks it.

A thread asks the loop for a sign of life, again and again. Where none comes within the limit, it
writes down what the loop's thread is doing just then.

A busy machine must not fail a test, so what counts is not the time on the clock alone: the time for
which threads of this process were ready to run and got no core is taken off (`schedstat`, which the
kernel keeps for each thread). What is left is work, waiting for a file, a lock or the GIL: a block
that a person would feel on any machine. Where the kernel keeps no such account, only the processor
time that the process used meanwhile counts.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

LIMIT_S = 0.1
PAUSE_S = 0.01
NUM_TRIES = 6
STACK_DEPTH = 14


@dataclass(frozen=True)
class Block:
    """The loop did nothing else for so long; `stack` is of the moment when the limit was passed."""

    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"the event loop was blocked for {1000 * self.seconds:.0f} ms:\n{self.stack}"


class Watchdog:
    """Entered in the loop's thread, while the loop runs."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self.blocks: list[Block] = []
        self._limit_s = limit_s
        self._is_over = threading.Event()

    def __enter__(self) -> Watchdog:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()

    def _watch(self) -> None:
        while not self._is_over.wait(PAUSE_S):
            self._ask()

    def _ask(self) -> None:
        answered = threading.Event()
        begun, delayed = time.monotonic(), _delayed_s()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            self._is_over.set()
            return
        stack = ""
        while not answered.wait(self._limit_s) and not self._is_over.is_set():
            stack = stack or self._stack()
        taken = time.monotonic() - begun
        if stack and (own := _own_s(taken, delayed)) > self._limit_s:
            self.blocks.append(Block(own, stack))

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._watched)
        return "".join(traceback.format_stack(frame)[-STACK_DEPTH:])


def drive_unblocked(look: Callable[[], Coroutine[Any, Any, list[Block]]]) -> None:
    """Blocks of the app's own come back every time; one that a busy machine made does not."""
    blocks: list[Block] = []
    for _ in range(NUM_TRIES):
        blocks = asyncio.run(look())
        if not blocks:
            return
    raise AssertionError("\n\n".join(map(str, blocks)))


@dataclass(frozen=True)
class _Account:
    """Seconds: waited for a core by each thread, by id; used of cores by all."""

    waited: dict[str, float]
    used: float


def _delayed_s() -> _Account:
    waited = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            waited[task.name] = int((task / "schedstat").read_bytes().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            continue
    return _Account(waited, time.process_time())


def _own_s(taken: float, before: _Account) -> float:
    """The part of `taken` that no other process is to blame for."""
    now = _delayed_s()
    if not now.waited:
        return now.used - before.used
    waits = [waited - before.waited.get(task, 0.0) for task, waited in now.waited.items()]
    return taken - sum(waits)

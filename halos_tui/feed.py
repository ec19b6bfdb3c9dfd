"""Reads, decodes and counts in a thread of its own, so that no screen ever waits on a file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from halos_backend.errors import HalosError

from halos_tui.formatting import visible

View = TypeVar("View")

INTERVAL_S = 0.25
"""New data reaches a screen at most this often."""


class Feed(Generic[View]):
    """Calls `read` again and again and hands on what it returns, unless that is None.

    `deliver` and `fail` are called in the feed's thread. A problem is told once, until reading
    works again or fails otherwise. After a view nothing is read until whoever took it has set
    `is_drawn`: where the terminal takes no more for an hour, an hour of views must not wait in the
    queue.

    What is asked of `read` before `hurry` is called is answered by a read that begins after that,
    at once when the one in flight is done and its view is drawn: no question is forgotten.
    """

    def __init__(
        self,
        read: Callable[[], View | None],
        *,
        deliver: Callable[[View], object],
        fail: Callable[[str], object],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._read = read
        self._deliver = deliver
        self._fail = fail
        self._interval_s = interval_s
        self.is_drawn = threading.Event()
        self._wake = threading.Event()
        self._may_read = threading.Event()
        self._is_stopped = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._loop, name="feed", daemon=True)

    def start(self) -> None:
        self.is_drawn.set()
        self._may_read.set()
        self._thread.start()

    def stop(self) -> None:
        """Nothing is delivered any more. Returns at once, also in the middle of a long read."""
        self._is_stopped = True
        self.is_drawn.set()
        self._may_read.set()
        self._wake.set()

    def suspend(self) -> None:
        """Read nothing until `resume`; for a screen that is covered by another."""
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()
        self._wake.set()

    def hurry(self) -> None:
        """Read now; for when something has just been asked of the run."""
        self._wake.set()

    def _loop(self) -> None:
        while True:
            self.is_drawn.wait()
            self._may_read.wait()
            if self._is_stopped:
                return
            self._wake.clear()
            self._step()
            self._wake.wait(self._interval_s)

    def _step(self) -> None:
        try:
            view = self._read()
        except (HalosError, OSError) as error:
            self._tell(visible(str(error)))
            return
        self._problem = None
        if view is not None and not self._is_stopped:
            self.is_drawn.clear()
            self._deliver(view)

    def _tell(self, problem: str) -> None:
        if problem != self._problem and not self._is_stopped:
            self._problem = problem
            self._fail(problem)

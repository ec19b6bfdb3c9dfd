"""Reads, decodes and counts in a thread of its own, so that no screen ever waits on a file.

The messages by which a feed tells its screen what it read are here too, and a way to wait for the
work of a thread without holding up the event loop, or the end of the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from threading import Event
from typing import Generic, TypeVar

from halos_backend.errors import HalosError
from textual.app import App
from textual.message import Message
from textual.worker import NoActiveWorker, get_current_worker

from halos_tui.formatting import visible

Result = TypeVar("Result")

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
        """Delivers nothing any more. Returns at once, also in the middle of a long read."""
        self._is_stopped = True
        self.is_drawn.set()
        self._may_read.set()
        self._wake.set()

    def suspend(self) -> None:
        """Reads nothing until `resume`; for a screen that is covered by another."""
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()
        self._wake.set()

    def hurry(self) -> None:
        """Reads now; for when a person has just asked the run for something."""
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


class Updated(Message, Generic[View]):
    """This message says that a feed has something new to draw. Only its own screen sees it.

    `is_drawn` is set once that is done; the feed reads on only then.
    """

    def __init__(self, view: View, is_drawn: Event | None = None) -> None:
        super().__init__()
        self.view = view
        self.is_drawn = is_drawn or Event()


class FeedFailed(Message):
    """This message says that a feed cannot read what it should, and why."""

    def __init__(self, problem: str) -> None:
        super().__init__()
        self.problem = problem


async def in_background(work: Callable[[], Result]) -> Result:
    """Does `work` in a thread of its own, and returns or raises what it does.

    Quitting the app does not wait for it: a request that was sent is answered all the same. A
    worker of a screen that closed meanwhile ends here, as its widgets are gone.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: Result | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            failure = error
        with contextlib.suppress(RuntimeError):  # the app is gone, and its loop with it
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="background", daemon=True).start()
    result = await future
    if _is_leaving():
        raise asyncio.CancelledError
    return result


def _is_leaving() -> bool:
    """Says whether the screen is being removed whose worker this is. Textual cancels its workers
    once all widgets below are gone; a screen is displayed until its removal begins.
    """
    try:
        node = get_current_worker().node
    except NoActiveWorker:
        return False
    if isinstance(node, App):
        return False
    return not node.is_attached or not node.screen.display


class LeftError(HalosError):
    """The person left before the work was done."""


def stop_if(is_left: threading.Event) -> None:
    """Raises LeftError once nobody waits for the work any more; the work calls it now and then."""
    if is_left.is_set():
        raise LeftError("left before it was done")

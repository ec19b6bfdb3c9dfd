"""Waits for work of a thread without holding up the event loop, or the end of the program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from halos_backend.errors import HalosError

Result = TypeVar("Result")


async def in_background(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, done in a thread of its own.

    Quitting the app does not wait for it: a request that was sent is answered all the same.
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
    return await future


class LeftError(HalosError):
    """The person left before the work was done."""


def stop_if(is_left: threading.Event) -> None:
    """For work to call now and then: raises LeftError once nobody waits for it any more."""
    if is_left.is_set():
        raise LeftError("left before it was done")

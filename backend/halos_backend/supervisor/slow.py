"""Does what takes long in a thread, so that the supervisor stays awake meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

TICK_S = 0.05


def run_slow(work: Callable[[], T], *, meanwhile: Callable[[], None]) -> T:
    """The result of `work`, or what it raises; `meanwhile` is called again and again."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not future.done():
        meanwhile()
        wait([future], timeout=TICK_S)
    return future.result()

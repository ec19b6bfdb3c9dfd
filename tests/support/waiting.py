"""Waits for conditions, never for times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

DEADLINE_S = 120.0


def wait_for(
    condition: Callable[[], Any], what: str = "", *, deadline_s: float = DEADLINE_S
) -> Any:
    """The first true value of `condition()`; AssertionError after the deadline."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline_s} s: {what or condition}"
        time.sleep(0.005)
    return value

"""Garbage collection that keeps nobody waiting.

Python looks through everything that lives again and again, and no other code runs meanwhile: 0.15 s
at a time for the app while a run says much. What is loaded at the start lives as long as the app
does, so it is not looked at any more; the rest is looked at less often.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NUM_YOUNG = 20_000
"""So many more objects than before are made until the newest are looked through."""


@contextmanager
def collected_rarely() -> Iterator[None]:
    """What is loaded inside is never garbage. Afterwards it is collected, but rarely."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(NUM_YOUNG, 10, 10)
        gc.enable()

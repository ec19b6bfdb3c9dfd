"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("gate", derandomize=True)
settings.load_profile("gate")
"""The same examples every time; `--hypothesis-profile=default` looks for others."""

pytest.register_assert_rewrite("tests.support.invariants")
"""A failure there says what was seen."""


LONGEST_FIRST = (
    *("model", "vllm", "chaos", "architecture", "rounds"),
    *("compat", "terminal", "fuzz", "stages"),
)
"""Folders whose cases take seconds to minutes: at the end of a session all processes have work."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(folder_of(item), len(places)))


def folder_of(item: pytest.Item) -> str:
    """The folder under `tests` that a case is in."""
    return item.path.relative_to(FOLDER).parts[0]


FOLDER = Path(__file__).parent
SHARED_MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 << 30


def pytest_configure() -> None:
    """`halos-tui` is on the PATH, as for who has installed it.

    The tests' folders are in memory where there is room: a journal waits for the disk at every line
    that must last, which is no part of what is proven.

    A shell's background jobs ignore Ctrl-C, those of `nohup` a hangup, and so do all that they
    start. A handler of our own is not inherited: the processes under test heed signals again.
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and can_hold_folders(SHARED_MEMORY):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(SHARED_MEMORY)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def can_hold_folders(path: Path) -> bool:
    """Whether programs may be written there and there is room for a session's folders."""
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    room = found.f_bavail * found.f_frsize
    return not found.f_flag & os.ST_NOEXEC and os.access(path, os.W_OK) and room >= ROOM_BYTES

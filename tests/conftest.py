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

pytest.register_assert_rewrite("tests.chaos.invariants")
"""A failure there says what was seen."""


def pytest_configure() -> None:
    """`halos-tui` is on the PATH, as for who has installed it.

    A shell's background jobs ignore Ctrl-C, those of `nohup` a hangup, and so do all that they
    start. A handler of our own is not inherited: the processes under test heed signals again.
    """
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)

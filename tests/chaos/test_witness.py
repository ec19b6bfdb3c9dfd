"""The witness sees two supervisors at work, and takes no child of one for another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.victims import MARK, find, of_role
from tests.support.waiting import wait_for
from tests.support.witness import LOOK_EVERY_S, Witness

WRITER = """
import os, sys, time
journal = open(sys.argv[1], "ab")
if sys.argv[2] == "with a child":
    os.fork()
time.sleep(60)
"""
LOOKS_LIKE = ("-m", "halos_backend.supervisor")


@contextmanager
def supervisors(run: Path, *kinds: str) -> Iterator[None]:
    """Processes that look like supervisors of the run, and write its journal."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, run / "events.jsonl", kind, *LOOKS_LIKE],
            env={**os.environ, MARK: str(run)},
        )
        for kind in kinds
    ]
    try:
        yield
    finally:
        for process in [*of_role(find(str(run)), "supervisor")]:
            os.kill(process.pid, 9)
        for child in started:
            child.wait()


def seen(run: Path, *kinds: str) -> list[str]:
    """What the witness says of such supervisors after a few looks."""
    witness = Witness(str(run), run)
    with supervisors(run, *kinds):
        num_processes = len(kinds) + kinds.count("with a child")
        wait_for(
            lambda: len(of_role(find(str(run)), "supervisor")) == num_processes, deadline_s=20.0
        )
        time.sleep(10 * LOOK_EVERY_S)
        return witness.stop()


@pytest.mark.parametrize(
    ("kinds", "is_wrong"),
    [
        (("alone",), False),
        (("with a child",), False),
        (("alone", "alone"), True),
        (("with a child", "alone"), True),
    ],
)
def test_two_writers_are_two_supervisors(
    tmp_path: Path, kinds: tuple[str, ...], is_wrong: bool
) -> None:
    found = seen(tmp_path, *kinds)
    assert bool(found) is is_wrong
    assert all(text.startswith("_writers: [") for text in found)

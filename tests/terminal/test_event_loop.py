"""The event loop is never blocked for longer than a person notices, on any screen of a big run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run
from tests.support import watched_app
from tests.support.demo_run import DemoRun
from tests.support.terminal import Terminal
from tests.support.tour import tour

BIG = Shape(num_rounds=300, num_steps=200, num_progressed=50, num_groups=256, num_kept=5)
NUM_OTHERS = 200
NUM_TOURS = 3


@pytest.mark.slow
def test_no_call_blocks_the_event_loop(demo: DemoRun) -> None:
    """Each tour is a new process, so that what is imported late counts too. A block that is the
    app's own comes back in every tour; one that a busy machine made does not.
    """
    make_run(demo.runs / "big", BIG)
    for number in range(NUM_OTHERS):
        make_run(demo.runs / f"run-{number:03d}", Shape(num_rounds=5), seed=number)
    blocks: list[str] = []
    for number in range(NUM_TOURS):
        blocks = blocks_of_a_tour(demo, demo.runs.parent / f"blocks-{number}")
        if not blocks:
            return
    raise AssertionError("\n\n".join(blocks))


def blocks_of_a_tour(demo: DemoRun, said: Path) -> list[str]:
    command = [sys.executable, watched_app.__file__, str(demo.runs), str(said)]
    with Terminal(command, environment=demo.environment) as terminal:
        tour(terminal, run="big", first_text=f"{NUM_OTHERS + 1} runs")
        terminal.press("q")
        terminal.wait()
    found: list[str] = json.loads(said.read_text())
    return found

"""What may happen to a terminal or to the app on it. The run never notices."""

from __future__ import annotations

import random
import re
import signal
import time

import pytest

from tests.support.demo_run import DemoRun
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

SILENT_S = 12.0
"""Textual's queue of writes is full after about three."""
NUM_SIZES = 300


def test_a_closed_terminal_ends_the_app_and_not_the_run(long_run: DemoRun) -> None:
    with long_run.attach() as terminal:
        terminal.hang_up()
        assert terminal.wait() != 0
    assert long_run.apps == []
    long_run.goes_on()


def test_kill_of_the_app_leaves_the_run_alone(long_run: DemoRun) -> None:
    with long_run.attach() as terminal:
        terminal.signal(signal.SIGKILL)
        assert terminal.wait() == -signal.SIGKILL
    assert long_run.apps == []
    long_run.goes_on()


def test_quitting_leaves_the_run_alone_and_the_terminal_as_it_was(long_run: DemoRun) -> None:
    with long_run.attach() as terminal:
        terminal.press("q")
        terminal.wait()
        assert modes_left_on(terminal.raw) == {b"7", b"25"}, "wrapping and the cursor, as ever"
    assert long_run.apps == []
    long_run.goes_on()


@pytest.mark.slow
def test_a_terminal_that_stops_reading_costs_nothing_and_is_right_afterwards(
    long_run: DemoRun,
) -> None:
    with long_run.attach() as terminal:
        time.sleep(2.0)
        terminal.stop_reading()
        memory, processor = terminal.own_bytes, terminal.cpu_s
        events = len(long_run.events)
        while len(long_run.events) == events:
            time.sleep(0.1)
        time.sleep(SILENT_S)
        assert terminal.own_bytes - memory < 4e6
        assert terminal.cpu_s - processor < 0.5 * SILENT_S
        long_run.goes_on()
        terminal.go_on_reading()
        shows_the_newest_round(terminal, long_run)
        terminal.press("q")
        terminal.wait()


@pytest.mark.slow
def test_a_storm_of_sizes_ends_with_the_right_screen(long_run: DemoRun) -> None:
    numbers = random.Random(4)
    with long_run.attach() as terminal:
        for number in range(NUM_SIZES):
            size = [(1, 1), (20, 5), (200, 60), (numbers.randint(1, 240), numbers.randint(1, 70))]
            terminal.resize(*size[number % 4])
            time.sleep(0.01 if number % 3 else 0.0)
        for columns, lines in ((1, 1), (2, 1), (20, 5), (80, 24)):
            terminal.resize(columns, lines)
            terminal.press("down", "up", pause_s=0.1)
            time.sleep(0.5)
            assert terminal.exit_code is None, terminal.raw[-3000:].decode(errors="replace")
        terminal.resize(120, 40)
        shows_the_newest_round(terminal, long_run)
        with long_run.attach() as fresh:
            same = "both terminals show the same"  # the run goes on between two looks
            wait_for(lambda: skeleton(fresh) == skeleton(terminal), same)
    long_run.goes_on()


def modes_left_on(raw: bytes) -> set[bytes]:
    """Of those that were switched at all; the keyboard's is called `keys`."""
    state = {mode: letter == b"h" for mode, letter in re.findall(rb"\x1b\[\?(\d+)([hl])", raw)}
    state[b"keys"] = raw.rfind(b"\x1b[>") > raw.rfind(b"\x1b[<u")
    return {mode for mode, is_on in state.items() if is_on}


def shows_the_newest_round(terminal: Terminal, run: DemoRun) -> None:
    """Also where another round starts meanwhile."""

    def is_there() -> bool:
        number = run.num_events("RoundStarted")
        return f"round {number} of" in terminal.text

    wait_for(is_there, "the newest round on the screen")


def skeleton(terminal: Terminal) -> list[str]:
    """The titles on the screen: what stays the same while the run goes on."""
    titles = (" change ", "machine", "reward before training", "events  ", "Quit", "Help")
    wait_for(lambda: all(title in terminal.text for title in titles), "the whole screen")
    lines = terminal.text.splitlines()
    return [f"{y} {title}" for y, line in enumerate(lines) for title in titles if title in line]

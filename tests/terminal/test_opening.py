"""How the app comes and goes on a real terminal."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest
from halos_backend.errors import ExitCode

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run
from tests.support import failing_app, other_textual
from tests.support.demo_run import SMALL, DemoRun
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

RESTORED = b"\x1b[?1049l\x1b[?25h\x1b[?1004l"
MOUSE = b"\x1b[?1000h"
MODES_OFF = re.compile(rb"\x1b\[\?[0-9]+l")


def said_after(terminal: Terminal) -> bytes:
    """What stands on the terminal that the app gave back."""
    return MODES_OFF.sub(b"", terminal.raw[terminal.raw.rindex(RESTORED) + len(RESTORED) :])


def test_a_dumb_terminal_is_told_in_one_sentence(demo: DemoRun) -> None:
    command = ["/usr/bin/env", "TERM=dumb", sys.executable, "-m", "halos_tui"]
    with Terminal(command, environment=demo.environment) as terminal:
        assert terminal.wait() == ExitCode.USAGE
        assert terminal.raw.count(b"\n") == 1
        assert b"TERM=dumb can place no text" in terminal.raw
        assert b"\x1b" not in terminal.raw


def test_an_unknown_theme_is_refused_before_anything_is_made(demo: DemoRun) -> None:
    for arguments in ((), ("demo", "--name", demo.name)):
        with demo.open(*arguments, "--theme", "nope") as terminal:
            assert terminal.wait() == ExitCode.USAGE
            assert "no theme 'nope'; there are ansi-16, colour-blind, dark" in terminal.text
    assert not demo.path.exists()


def test_the_list_and_a_run_are_left_with_exit_code_0_and_nothing_said(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape())
    for arguments in ((), ("attach", "a-run")):
        with demo.open(*arguments) as terminal:
            terminal.wait_for("a-run", "Quit (runs go on)")
            assert MOUSE in terminal.raw
            terminal.press("q")
            assert terminal.wait() == ExitCode.COMPLETED
            assert said_after(terminal) == b""


def test_the_terminal_says_how_large_it_is_whatever_a_shell_exported(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape())
    with demo.open("attach", "a-run", COLUMNS="80", LINES="24") as terminal:
        terminal.wait_for("a-run", "Quit (runs go on)")
        assert "Quit (runs go on)" in terminal.text.splitlines()[39]
        terminal.resize(90, 30)
        wait_for(lambda: len(terminal.text.splitlines()) == 30, "30 lines")
        wait_for(lambda: "Quit" in terminal.text.splitlines()[29], "the footer in the last line")


def test_the_mouse_is_left_to_the_terminal_if_one_likes(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape())
    with demo.open("--no-mouse") as terminal:
        terminal.wait_for("a-run")
        assert MOUSE not in terminal.raw
    config = demo.config / "halos-tui"
    config.mkdir(parents=True)
    (config / "config.toml").write_text("mouse = false\n")
    with demo.open() as terminal:
        terminal.wait_for("a-run")
        assert MOUSE not in terminal.raw


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was_and_is_named(
    demo: DemoRun, number: signal.Signals
) -> None:
    make_run(demo.runs / "a-run", Shape())
    with demo.open() as terminal:
        terminal.wait_for("a-run")
        terminal.signal(number)
        assert terminal.wait() == ExitCode.COMPLETED
        said = f"{number.name} ended the app; every run goes on by itself\r\n"
        assert said_after(terminal) == said.encode()


@pytest.mark.parametrize("place", ["handler", "worker", "thread"])
def test_a_defect_ends_the_app_with_one_line_that_names_the_file_of_its_traceback(
    demo: DemoRun, place: str
) -> None:
    said = said_by_failing_app(demo, place)
    found = re.fullmatch(
        rb"halos-tui: this is a defect of halos-tui \(KeyError: 'of ours'\), and nothing that you"
        rb" did wrong; please report it with (\S+)\r\n",
        said,
    )
    assert found is not None, said
    told = Path(found[1].decode()).read_text()
    assert "Traceback (most recent call last)" in told
    assert "failing_app.py" in told
    assert told.endswith("KeyError: 'of ours'\n")


def test_an_error_that_a_person_can_mend_is_told_in_its_own_words(demo: DemoRun) -> None:
    assert said_by_failing_app(demo, "usage") == b"halos-tui: mend this\r\n"


def test_an_app_that_ends_for_no_known_reason_says_so(demo: DemoRun) -> None:
    said = said_by_failing_app(demo, "cancelled")
    assert b"(RuntimeError: the app ended, and nothing in it says why)" in said


def test_a_run_whose_app_fails_goes_on_and_is_told_of(demo: DemoRun) -> None:
    said = said_by_failing_app(demo, "handler", "demo", "--name", demo.name, *SMALL)
    assert f"run {demo.name} is running".encode() in said
    assert b"halos-tui: this is a defect of halos-tui (KeyError: 'of ours')" in said
    demo.goes_on()


def said_by_failing_app(demo: DemoRun, place: str, *verb: str) -> bytes:
    """What stands on the terminal after the app, which is ended by a press of ctrl+t."""
    if not verb:
        make_run(demo.runs / "a-run", Shape())
    command = [sys.executable, failing_app.__file__, place, *(verb or ("attach", "a-run"))]
    environment = {**demo.environment, "XDG_STATE_HOME": str(demo.runs.parent / "state")}
    with Terminal(command, environment=environment) as terminal:
        assert terminal.takes_lines
        terminal.wait_for("Quit (runs go on)")
        assert not terminal.takes_lines
        terminal.press("ctrl+t")
        expected = ExitCode.USAGE if place == "usage" else ExitCode.FAILED
        assert terminal.wait() == expected
        assert terminal.takes_lines
        return said_after(terminal)


def test_demo_opens_its_run_and_says_afterwards_how_to_come_back(demo: DemoRun) -> None:
    options = ("--name", demo.name, "--rounds", "1000", *SMALL)
    with demo.open("demo", *options) as terminal:
        terminal.wait_for(demo.name, "running", "Quit (runs go on)")
        terminal.press("q")
        assert terminal.wait() == ExitCode.UNFINISHED
        said = said_after(terminal).decode()
        assert f"run {demo.name} is running, round " in said
        assert said.count("\n") == 5, "that, 'next:' and three commands"
        assert f"halos-tui attach {demo.name}" in said
        assert f"halos-tui watch {demo.name}" in said
        assert f"halos-tui pause {demo.name}" in said
    assert demo.apps == []
    demo.goes_on()
    with demo.attach() as terminal:
        terminal.press("escape")
        terminal.wait_for("by started", demo.name)


@pytest.mark.parametrize("change", ["names", "parts"])
def test_a_textual_with_other_private_updates_shows_the_same_with_more_bytes(
    demo: DemoRun, change: str
) -> None:
    make_run(demo.runs / "a-run", Shape())
    other = [sys.executable, other_textual.__file__, change, "attach", "a-run"]
    with (
        demo.open("attach", "a-run") as ours,
        Terminal(other, environment=demo.environment) as terminal,
    ):
        for shown in (ours, terminal):
            shown.wait_for("a-run", "Quit (runs go on)")
            shown.settle()
        assert bytes_of_keys(terminal) > 1.2 * bytes_of_keys(ours)
        assert terminal.text == ours.text
        terminal.press("q")
        assert terminal.wait() == ExitCode.COMPLETED


def bytes_of_keys(terminal: Terminal) -> int:
    """What moving the cursor up and down in the list of rounds costs."""
    before = terminal.num_bytes
    for key in ("up", "up", "down", "up"):
        terminal.press(key)
        terminal.settle()
    return terminal.num_bytes - before

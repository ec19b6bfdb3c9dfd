"""The live view on a real (pseudo) terminal, and Ctrl-C there, against a real supervisor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import MetricsLogged, PhaseChanged, Progressed, RunPaused, Warned
from halos_backend.store.identity import lock_holder
from halos_backend.store.writer import EventWriter

from tests.support.command_line import SUPPORT
from tests.support.fake_run import FakeRun
from tests.support.forks import forking
from tests.support.made_run import MadeRun
from tests.support.pty_output import OWN_SEQUENCES, Terminal
from tests.support.waiting import wait_for

DRIVER = SUPPORT / "drive_follow.py"
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnorw [bold]x[/bold]"
SHOWN = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnorw [bold]x[/bold]"

Follow = Callable[..., Terminal]


@pytest.fixture
def follow(environment: dict[str, str]) -> Iterator[Follow]:
    opened: list[Terminal] = []

    def start(path: Path, **size: int) -> Terminal:
        opened.append(Terminal([sys.executable, str(DRIVER), str(path)], env=environment, **size))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.__exit__(None, None, None)


def _say(run: MadeRun, *events: Any) -> None:
    with EventWriter(run.dir.attempt(2, "train", 1).events) as writer:
        for event in events:
            writer.append(event)


def _training(runs: Path) -> MadeRun:
    """In the second round's training, with a warning from elsewhere."""
    run = MadeRun(runs)
    run.supervised()
    run.whole_round(1, reward_mean=0.5)
    run.start_round(2)
    for stage in ("sample", "label"):
        run.start_stage(2, stage)
        run.finish_stage(2, stage, reward_mean=0.75)
    run.start_stage(2, "train")
    about: dict[str, Any] = {"round": 2, "stage": "train", "attempt": 1}
    _say(
        run,
        PhaseChanged(t=1.0, phase="training", **about),
        Progressed(t=10.0, done=2, total=8, unit="steps", **about),
        Progressed(t=12.0, done=4, total=8, unit="steps", **about),
        MetricsLogged(t=12.0, step=4, metrics={"loss": 0.625}, **about),
        Warned(t=12.0, text=EVIL, **about),
    )
    return run


def test_the_view_shows_rounds_progress_metrics_and_how_to_leave(
    follow: Follow, runs: Path
) -> None:
    run = _training(runs)
    terminal = follow(run.dir.path)
    for text in (
        "a-run  running  round 2 of 2  dpo",
        "+0.25",
        "train training",
        "4/8 steps  1 steps/s  ETA 4.0s",
        "step 4: loss 0.625",
        "Ctrl-C: detach, stop or abort.",
    ):
        terminal.wait_for(text)
    run.finish_stage(2, "train")
    run.complete()
    run.unsupervised()
    assert terminal.exit_code() == 0
    assert "completed: all rounds are done" in terminal.text


def test_escape_sequences_of_a_stage_never_reach_the_terminal(follow: Follow, runs: Path) -> None:
    run = _training(runs)
    terminal = follow(run.dir.path, columns=200)
    terminal.wait_for(SHOWN)
    run.fail_stage(2, "train", EVIL)
    run.say(RunPaused(t=1.0, reason=EVIL))
    run.unsupervised()
    assert terminal.exit_code() == 6
    rest = OWN_SEQUENCES.sub(b"", terminal.output)
    assert b"\x1b" not in rest
    assert b"\x07" not in rest
    assert "\x9b" not in rest.decode()
    assert "\u202e" not in rest.decode()
    assert b"\x1b[2J" not in terminal.output


def test_the_view_fits_a_small_terminal_whatever_the_number_of_rounds(
    follow: Follow, runs: Path
) -> None:
    run = MadeRun(runs, num_rounds=60, num_prompts=120)
    run.supervised()
    for round in range(1, 51):
        run.whole_round(round)
    terminal = follow(run.dir.path, rows=24, columns=80)
    terminal.wait_for("Ctrl-C: detach")
    lines = terminal.text.replace("\r", "").rstrip("\n").split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("a-run  running"))
    picture = lines[first:]
    assert len(picture) <= 24
    assert max(len(line) for line in picture) <= 80
    assert any(line.split()[:2] == ["50", "2"] for line in picture)
    assert "earlier" in "\n".join(picture)


def test_no_color_sends_no_colour(follow: Follow, runs: Path, environment: dict[str, str]) -> None:
    run = _training(runs)
    coloured = follow(run.dir.path)
    coloured.wait_for("Ctrl-C: detach")
    assert b"\x1b[36m" in coloured.output
    environment["NO_COLOR"] = "1"
    plain = follow(run.dir.path)
    plain.wait_for("Ctrl-C: detach")
    assert b"\x1b[3" not in plain.output
    assert b"\x1b[9" not in plain.output


@pytest.fixture
def fake_run(runs: Path) -> Iterator[FakeRun]:
    """A real supervisor whose first stage holds until the test releases it."""
    run = FakeRun(runs / "held", supervisor=forking("tests.support.drive_supervisor"))
    run.behave(r1_sample_1="hold")
    run.start()
    run.hold(1, "sample")
    yield run
    run.check()


def _asked(terminal: Terminal) -> int:
    """Press Ctrl-C and read the question; returns where the answer's text begins."""
    terminal.wait_for("Ctrl-C: detach")
    terminal.press("\x03")
    terminal.wait_for("p  or Ctrl-C again: stop it now; go on later with: halos-tui resume")
    terminal.wait_for("anything else goes on here")
    return len(terminal.text)


def test_a_and_the_word_abort_for_good(follow: Follow, fake_run: FakeRun) -> None:
    terminal = follow(fake_run.dir.path)
    _asked(terminal)
    terminal.press("a")
    terminal.wait_for("type abort and Enter to end it for good:")
    terminal.press("abort\r")
    assert terminal.exit_code() == 3
    assert fake_run.state.status == "aborted"


@pytest.mark.parametrize("typed", ["\r", "y\r", "\x03"])
def test_a_and_anything_but_the_word_leaves_the_run_alone(
    follow: Follow, fake_run: FakeRun, typed: str
) -> None:
    terminal = follow(fake_run.dir.path)
    answered = _asked(terminal)
    terminal.press("a")
    terminal.wait_for("type abort and Enter")
    terminal.press(typed)
    terminal.wait_for("the run goes on\r\n", after=answered)
    fake_run.release(fake_run.dir.attempt(1, "sample", 1))
    assert terminal.exit_code() == 0
    assert fake_run.state.status == "completed"


@pytest.mark.parametrize("keys", ["p", "\x03"])
def test_p_or_a_second_ctrl_c_stops_now_so_that_the_run_can_be_resumed(
    follow: Follow, fake_run: FakeRun, keys: str
) -> None:
    terminal = follow(fake_run.dir.path)
    _asked(terminal)
    terminal.press(keys)
    assert terminal.exit_code() == 6
    assert fake_run.state.status == "paused"
    assert lock_holder(fake_run.dir) is None
    assert "halos-tui resume held" in terminal.text


def test_d_detaches_and_the_run_goes_on(follow: Follow, fake_run: FakeRun) -> None:
    terminal = follow(fake_run.dir.path)
    _asked(terminal)
    terminal.press("d")
    assert terminal.exit_code() == 6
    assert lock_holder(fake_run.dir) is not None
    fake_run.release(fake_run.dir.attempt(1, "sample", 1))
    wait_for(lambda: fake_run.state.status == "completed")


def test_any_other_key_goes_on_and_the_view_comes_back(follow: Follow, fake_run: FakeRun) -> None:
    terminal = follow(fake_run.dir.path)
    answered = _asked(terminal)
    terminal.press("x")
    terminal.wait_for("the run goes on", after=answered)
    terminal.wait_for("Ctrl-C: detach", after=answered)
    fake_run.release(fake_run.dir.attempt(1, "sample", 1))
    assert terminal.exit_code() == 0
    assert fake_run.state.status == "completed"


def test_a_closed_terminal_detaches(follow: Follow, fake_run: FakeRun) -> None:
    terminal = follow(fake_run.dir.path)
    terminal.wait_for("Ctrl-C: detach")
    terminal.hang_up()
    assert terminal.process.wait(timeout=30) == 6
    fake_run.release(fake_run.dir.attempt(1, "sample", 1))
    wait_for(lambda: fake_run.state.status == "completed")

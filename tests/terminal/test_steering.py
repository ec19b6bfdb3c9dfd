"""A person's whole way with a run: start, look, pause, change, go on, leave, come back, stop."""

from __future__ import annotations

from halos_backend.errors import ExitCode

from tests.support.demo_run import SMALL, DemoRun
from tests.support.terminal import Terminal

TYPING_S = 0.08
NEW_LR = "0.0004"


def test_a_run_is_steered_from_start_to_end_without_leaving_the_terminal(demo: DemoRun) -> None:
    with demo.open("demo", "--name", demo.name, "--rounds", "500", *SMALL) as terminal:
        terminal.wait_for(demo.name, "running", "round 1 of 500")
        pause(terminal, demo)
        change_the_learning_rate(terminal, demo)
        go_on(terminal, demo)
        supervisors = demo.num_events("SupervisorStarted")
        terminal.press("q")
        assert terminal.wait() == ExitCode.UNFINISHED
    assert demo.apps == []
    demo.wait_for_event("StageStarted", after=len(demo.events))

    with demo.open("attach", demo.name) as terminal:
        terminal.wait_for(demo.name, "running", "of 500")
        abort(terminal, demo)
        terminal.press("q")
        terminal.wait()
    assert demo.num_events("SupervisorStarted") == supervisors, "leaving did not touch it"


def pause(terminal: Terminal, demo: DemoRun) -> None:
    terminal.press("p")
    terminal.wait_for(f"Pause {demo.name}?", "at the end of round")
    terminal.press("r")
    demo.wait_for_event("PauseRequested")
    terminal.wait_for("pausing", "at the end of round")
    demo.wait_for_event("RunPaused")
    terminal.wait_for("paused", "p goes on")


def change_the_learning_rate(terminal: Terminal, demo: DemoRun) -> None:
    """From the next round on; the screen says what follows from it, and the command."""
    terminal.press("t")
    terminal.wait_for("changes hold from round 2 on", "num_rounds")
    terminal.press("/", *"train.lr", pause_s=TYPING_S)
    terminal.wait_for("train.lr: Peak learning rate")
    terminal.press("enter", "down", "enter", pause_s=3 * TYPING_S)
    terminal.press(*["backspace"] * 10, pause_s=TYPING_S)
    terminal.press(*NEW_LR, "enter", pause_s=TYPING_S)
    terminal.wait_for(f"$ halos-tui set {demo.name} train.lr={NEW_LR}")
    terminal.press("ctrl+s")
    terminal.wait_for("Change 1 setting from round 2 on?", f"0.0002 -> {NEW_LR}")
    terminal.press("y")
    changed = demo.wait_for_event("SettingsChanged")
    assert changed["changes"] == {"train.lr": [2e-4, float(NEW_LR)]}
    assert changed["from_round"] == 2


def go_on(terminal: Terminal, demo: DemoRun) -> None:
    terminal.wait_for("paused", f"train.lr 0.0002 -> {NEW_LR}")
    terminal.press("p")
    demo.wait_for_event("RunResumed")
    terminal.wait_for("running", "round 2 of 500")
    begun = demo.wait_for_event("RoundStarted", round=2)
    assert begun["settings"]["train"]["lr"] == float(NEW_LR)


def abort(terminal: Terminal, demo: DemoRun) -> None:
    terminal.press("a")
    terminal.wait_for(f"Abort {demo.name} for good?", "Stops:", "Stays:")
    terminal.press("o")
    demo.wait_for_event("AbortRequested", when="now")
    demo.wait_for_event("RunAborted")
    terminal.wait_for("aborted")

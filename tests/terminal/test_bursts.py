"""Keys that arrive in one read do what they do one at a time, in every field and dialog."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run
from tests.support.demo_run import DemoRun
from tests.support.terminal import Terminal

SLOWLY_S = 0.01
NUM_DRAWN = 25
SEED = 20
LETTERS = "abcdefgh0123456789.-"


def typed(text: str) -> list[str]:
    """Keys that leave exactly that text in a field, by way of every kind of editing."""
    clear = ["end", *"zz", "left", "ctrl+u", "delete"]
    middle = [*text[1:-1], *"qq", "backspace", "left", "delete"]
    return [*clear, *middle, "home", text[0], "end", text[-1]]


PASTED = [*"zz", "ctrl+u", "\x1b[200~train\x1b[201~", "backspace", *"n.lr"]
"""A terminal brackets what is pasted; in the field it is `train.lr` in the end."""


@dataclass(frozen=True)
class Case:
    """`keys` are pressed on a run's screen, and `shown` stands where they lead to. A list of keys
    is typed into a field.
    """

    name: str
    keys: Sequence[str | list[str]]
    shown: tuple[str, ...]


CASES = (
    Case("help search", ["?", "/", typed("Curve"), "enter"], ("Curve: The next train",)),
    Case("round to jump to", ["/", typed("12"), "enter", "c"], ("round 12 of 20  none",)),
    Case("log search", ["l", "/", typed("policy"), "enter"], ("  policy",)),
    Case("completions filter", ["c", "/", typed("sorted"), "enter"], ("filter sorted",)),
    Case("charts", ["m", "/", typed("^reward"), "enter"], ("filter ^reward",)),
    Case("run to add", ["m", "p", typed("b-run"), "enter"], ("● a-run  ◆ b-run  by round",)),
    Case("history filter", ["h", "/", PASTED, "enter"], ("filter train.lr",)),
    Case(
        "setting",
        ["t", "/", typed("train.lr"), "enter", "down", "enter", typed("0.0819"), "enter"],
        ("set a-run train.lr=0.0819",),
    ),
    Case("first round", ["t", "F", typed("25"), "enter"], ("from round 25",)),
    Case("new run's name", ["n", "N", typed("a-name"), "enter"], ("New run a-name, from",)),
    Case(
        "fork",
        ["f", typed("77"), "tab", typed("fork-b"), "tab", typed("train.lr=1e-6"), "enter"],
        ("77", "fork-b", "train.lr=1e-6", "has no round 77"),
    ),
    Case("no abort, then a search", ["a", "n", "l", "/", typed("step"), "enter"], ("  step",)),
)

TYPICAL = ("round to jump to", "completions filter", "fork", "no abort, then a search")
"""These inputs and dialogs stand for the others in a short run."""


@pytest.fixture(scope="module")
def run_screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """The screen of a run that waits for somebody to go on with it."""
    demo = DemoRun(tmp_path_factory.mktemp("bursts"))
    shape = Shape(num_planned=40, num_groups=8)
    make_run(demo.runs / "a-run", shape, is_complete=False)
    make_run(demo.runs / "b-run", shape)
    with demo.open() as terminal:
        terminal.wait_for("2 runs")
        terminal.press_at_once("/", *typed("a-run"), "enter", "enter")
        terminal.wait_for("reward before training")
        terminal.settle()
        yield terminal
    demo.close()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case.name in TYPICAL else pytest.mark.slow, id=case.name)
        for case in CASES
    ],
)
def test_a_burst_does_what_the_same_keys_do_slowly(case: Case, run_screen: Terminal) -> None:
    for key in case.keys:
        if isinstance(key, str):
            run_screen.press(key)
            run_screen.settle(0.1)
        else:
            run_screen.press(*key, pause_s=SLOWLY_S)
    run_screen.wait_for(*case.shown)
    slowly = run_screen.settle(0.2)
    leave(run_screen)
    run_screen.press_at_once(*(key for keys in case.keys for key in each(keys)))
    run_screen.wait_for(*case.shown)
    at_once = run_screen.settle(0.2)
    leave(run_screen)
    assert at_once == slowly


def each(keys: str | list[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else keys


def leave(terminal: Terminal) -> None:
    """Goes back to the run's screen; escape closes one thing at a time."""
    for _ in range(8):
        screen = terminal.settle(0.1)
        if "reward before training" in screen and "escape leaves" not in screen:
            return
        if "by started" in screen:  # a screen that was slow to go got one escape too many
            terminal.press_at_once("enter")
        else:
            terminal.press_at_once("y" if "Leave, and forget" in screen else "escape")
        terminal.wait_until(lambda now, before=screen: now != before, what="change", deadline_s=5)
    raise AssertionError(f"no way back to the run:\n{terminal.text}")


def test_a_burst_filters_the_list_and_fills_the_dialog_that_it_opens(run_screen: Terminal) -> None:
    leave(run_screen)
    run_screen.press("escape")
    run_screen.wait_for("by started")
    run_screen.press_at_once("/", *typed("b-run"), "enter", "e", *typed("0819"), "end")
    run_screen.wait_for("1 run of 2", "How many more rounds", " 0819 ")
    run_screen.press_at_once("ctrl+u", *"00", "enter")
    run_screen.wait_for(" 00 ", "a whole number from 1 on")
    run_screen.press("escape", "escape")
    run_screen.wait_for("2 runs")
    run_screen.press_at_once("/", *typed("a-run"), "enter", "enter")
    run_screen.wait_for("reward before training")


class Line:
    """What a field with those keys does to its text, written without looking at Textual's."""

    def __init__(self) -> None:
        self.before, self.after = "", ""

    def press(self, key: str) -> None:
        match key:
            case "backspace":
                self.before = self.before[:-1]
            case "delete":
                self.after = self.after[1:]
            case "left":
                self.before, self.after = self.before[:-1], self.before[-1:] + self.after
            case "right":
                self.before, self.after = self.before + self.after[:1], self.after[1:]
            case "home":
                self.before, self.after = "", self.before + self.after
            case "end":
                self.before, self.after = self.before + self.after, ""
            case "ctrl+u":
                self.before = ""
            case "ctrl+k":
                self.after = ""
            case _:
                self.before += key


EDITING = ("backspace", "delete", "left", "right", "home", "end", "ctrl+u", "ctrl+k")
WEIGHTS = (6, 3, 8, 4, 2, 2, 1, 1)


def test_editing_keys_of_a_burst_are_done_in_their_order(run_screen: Terminal) -> None:
    leave(run_screen)
    run_screen.press("m")
    run_screen.wait_for("by round")
    run_screen.press("w")
    run_screen.wait_for("write to")
    numbers, line = random.Random(SEED), Line()
    for _ in range(NUM_DRAWN):
        keys = [
            numbers.choice(LETTERS)
            if numbers.random() < 0.6
            else numbers.choices(EDITING, WEIGHTS)[0]
            for _ in range(numbers.randint(2, 40))
        ]
        mark = ["end", "!", "home", "<"]  # the field is never empty, and its ends are seen
        for key in (*keys, *mark):
            line.press(key)
        run_screen.press_at_once(*keys, *mark)
        wanted = f"write to {line.before}{line.after}"
        run_screen.wait_until(
            lambda screen, wanted=wanted: wanted in [each.rstrip() for each in screen.splitlines()],
            what=f"{wanted!r} after {keys}",
            deadline_s=10,
        )

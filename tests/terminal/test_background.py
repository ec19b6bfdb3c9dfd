"""The terminal's background: asked for, followed, and never taken for keys."""

from __future__ import annotations

import pytest
from textual.color import Color

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run
from halos_tui.terminal.background import QUESTION, Answers, colour_of
from halos_tui.theme import load_app_themes, theme_on
from tests.support.colours import contrast
from tests.support.demo_run import DemoRun
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

ANSWER = "\x1b]11;rgb:0000/2b2b/3636\x1b\\"
BLUE = Color(0, 0x2B, 0x36)


@pytest.mark.parametrize("end", ["\x07", "\x1b\\"])
def test_an_answer_is_taken_out_wherever_it_is_cut(end: str) -> None:
    read = f"a\x1b]11;rgb:0000/2b2b/3636{end}b"
    for first in range(1, len(read)):
        for second in range(first, len(read)):
            answers = Answers(0.0)
            pieces = (read[:first], read[first:second], read[second:])
            keys = [answers.keys_of(piece, 0.01 * t) for t, piece in enumerate(pieces)]
            assert "".join(keys) == "ab"
            assert answers.told == BLUE


@pytest.mark.parametrize(
    ("read", "keys"),
    [
        ("\x1b]11;garbage\x07x", "x"),
        ("\x1b]11;" + "y" * 5000 + "\x07", ""),
        ("\x1b]11;rgb:00\x1b[A", "\x1b[A"),
        ("\x1b]11;rgb:zz/00/00\x1b\\\x1b[B", "\x1b[B"),
        ("\x1b[A\x1b[I", "\x1b[A\x1b[I"),
        ("\x1b]8x", "\x1b]8x"),
    ],
)
def test_garbage_is_no_colour_and_no_keys(read: str, keys: str) -> None:
    answers = Answers(0.0)
    assert answers.keys_of(read, 0.1) + answers.overdue(9.0) == keys
    assert answers.told is None


def test_an_escape_by_itself_is_a_key_after_a_moment_and_at_once_when_none_is_awaited() -> None:
    answers = Answers(0.0)
    assert answers.keys_of("\x1b", 1.0) == ""
    assert answers.overdue(1.1) == ""
    assert answers.overdue(1.3) == "\x1b"
    assert answers.keys_of("\x1b", 6.0) == "\x1b"


def test_a_late_answer_is_taken_out_and_changes_nothing() -> None:
    answers = Answers(0.0)
    assert answers.keys_of(ANSWER, 5.1) == ""
    assert answers.told is None


def test_what_never_ends_is_dropped() -> None:
    answers = Answers(0.0)
    assert answers.keys_of("\x1b]11;rgb:00", 0.1) == ""
    assert answers.overdue(1.2) == ""
    assert answers.keys_of("q", 1.3) == "q"


@pytest.mark.parametrize(
    ("answer", "colour"),
    [
        ("rgb:ffff/8080/0000", Color(255, 128, 0)),
        ("rgb:f/8/0", Color(255, 136, 0)),
        ("rgba:ff/80/00/ff", Color(255, 128, 0)),
        ("rgb:ff/80", None),
        ("?", None),
        ("", None),
    ],
)
def test_colours_are_read_as_x11_writes_them(answer: str, colour: Color | None) -> None:
    assert colour_of(answer) == colour


@pytest.mark.parametrize(
    "background",
    ["#000000", "#002b36", "#282a36", "#300a24", "#2e3440", "#ffffff", "#fdf6e3", "#fbf1c7"],
)
def test_every_text_can_be_read_on_the_terminals_background(background: str) -> None:
    ground = Color.parse(background)
    theme = theme_on(ground, load_app_themes()[0])
    assert theme is not None and theme.background is not None
    assert Color.parse(theme.background) == ground
    assert theme.dark == (contrast(ground, Color(0, 0, 0)) < contrast(ground, Color(255, 255, 255)))
    texts = (theme.foreground, theme.accent, theme.success, theme.warning, theme.error)
    for text in (*texts, theme.primary, theme.secondary):
        for name in (theme.background, theme.surface, theme.panel):
            assert contrast(Color.parse(text or ""), Color.parse(name or "")) >= 4.5


def test_a_middle_grey_is_not_followed() -> None:
    assert theme_on(Color.parse("#777777"), load_app_themes()[0]) is None


def backgrounds(terminal: Terminal) -> set[str]:
    return {cell.bg for row in terminal.cells for cell in row}


def test_the_app_sits_in_the_terminal_whose_answer_comes_in_pieces(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape())
    with demo.open() as terminal:
        terminal.wait_for("a-run", "Quit (runs go on)")
        assert QUESTION.encode() in terminal.raw
        assert "default" not in backgrounds(terminal)
        terminal.press("/", "a-", *ANSWER[:20], ANSWER[20:], "ru", pause_s=0.02)
        wait_for(lambda: "default" in backgrounds(terminal), "the terminal's background")
        terminal.wait_for("a-ru")
        terminal.settle()
        assert "rgb" not in terminal.text and "11;" not in terminal.text
        terminal.press("escape", "q")
        assert terminal.wait() == 0


def test_a_theme_that_one_chose_stays(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape())
    with demo.open("--theme", "light") as terminal:
        terminal.wait_for("a-run", "Quit (runs go on)")
        assert QUESTION.encode() not in terminal.raw
    with demo.open() as terminal:
        terminal.wait_for("a-run", "Quit (runs go on)")
        terminal.press("ctrl+t")
        terminal.settle()
        terminal.press(ANSWER, "/", "x")
        terminal.settle()
        assert "default" not in backgrounds(terminal)
        assert "rgb" not in terminal.text

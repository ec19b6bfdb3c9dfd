"""Nothing that a model, a log or a run's name says steers the terminal, on any screen.

NO_COLOR means none there: neither foreground nor background, whatever the theme says.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.demo_run import DemoRun
from tests.support.hostile_run import colours_in, make_hostile_run, steering_in
from tests.support.tour import tour


@pytest.mark.parametrize(
    ("is_failed", "environment"),
    [(False, {}), pytest.param(True, {"NO_COLOR": "1"}, marks=pytest.mark.slow)],
    ids=["at work", "failed, without colours"],
)
def test_no_text_of_a_run_reaches_the_terminal_as_a_sequence(
    demo: DemoRun, *, is_failed: bool, environment: dict[str, str]
) -> None:
    make_hostile_run(demo.runs, is_failed=is_failed)
    with demo.open(**environment) as terminal:
        seen = tour(terminal, run="evil", first_text="evil")
        terminal.press("q")
        terminal.wait()
        assert steering_in(terminal.raw) == []
        assert bool(colours_in(terminal.raw)) != bool(environment)
    shown = "\n".join(seen)
    assert "\\x1b]52" in shown
    assert "\\u202e" in shown
    assert "[red]no[/red]" in shown, "markup is text like any other"


def test_the_check_itself_finds_what_it_looks_for(tmp_path: Path) -> None:
    from tests.support.hostile_run import FORBIDDEN, TEXT

    assert steering_in(b"\x1b]22;default\x07plain \x1b[1;31mtext\x1b[0m") == []
    assert set(FORBIDDEN) <= set(steering_in(TEXT.encode()))

"""NO_COLOR means none: neither foreground nor background, whatever the theme says."""

from __future__ import annotations

import re

from benchmarks.made_events import Shape
from benchmarks.made_runs import make_run
from tests.support.demo_run import DemoRun
from tests.support.tour import tour

SGR = re.compile(rb"\x1b\[([0-9;:]*)m")
COLOURS = {*range(30, 50), *range(90, 108), 58}


def colours_in(raw: bytes) -> set[bytes]:
    """The sequences that set a colour; those that say so in so many words, as 39, as well."""
    return {
        found[0]
        for found in SGR.finditer(raw)
        if COLOURS & {int(number or 0) for number in re.split(rb"[;:]", found[1])}
    }


def test_no_colour_is_sent_with_no_color(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape(num_groups=8, num_kept=20))
    with demo.open(NO_COLOR="1") as terminal:
        tour(terminal, run="a-run", first_text="a-run")
        terminal.press("q")
        terminal.wait()
        assert colours_in(terminal.raw) == set()


def test_colours_are_sent_without_it(demo: DemoRun) -> None:
    make_run(demo.runs / "a-run", Shape())
    with demo.open() as terminal:
        terminal.wait_for("a-run")
        assert colours_in(terminal.raw) != set()

"""The keys know how the run stands: what does something comes first, what does not is hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import (
    AbortRequested,
    PauseRequested,
    RunAborted,
    RunFailed,
    RunPaused,
)
from halos_backend.store.run_dir import RunDir
from textual.command import CommandPalette
from textual.screen import Screen
from textual.widgets import Input

from halos_tui.changes.screen import ChangesScreen
from halos_tui.completions.screen import CompletionsScreen
from halos_tui.control.offers import SeenRun, why_not
from halos_tui.logs.screen import LogsScreen
from halos_tui.metrics.screen import MetricsScreen
from halos_tui.runs.screen import RunsScreen
from halos_tui.screens.help import HelpScreen
from halos_tui.widgets.footer import Footer, Hint, rows_of
from tests.support.answering import Answering
from tests.support.app_fixtures import (
    HalosApp,
    drive,
    opened,
    run_screen,
    screen_text,
    until,
    until_shown,
    until_told,
)
from tests.support.made_run import STARTED_T, MadeRun, write_round_files
from tests.support.shell_fixtures import listed, shell

T = STARTED_T + 50


def working(run: MadeRun) -> None:
    run.whole_round(1)
    run.start_round(2)
    run.start_stage(2, "sample")


def paused(run: MadeRun) -> None:
    run.whole_round(1)
    run.say(RunPaused(t=T, reason="by its owner"))


def failed(run: MadeRun) -> None:
    run.whole_round(1)
    run.start_round(2)
    run.start_stage(2, "sample")
    run.fail_stage(2, "sample", "no memory left")
    run.say(RunFailed(t=T, reason="no memory left"))


def completed(run: MadeRun) -> None:
    run.whole_round(1)
    run.complete()


def aborted(run: MadeRun) -> None:
    run.say(RunAborted(t=T, request_id="r"))


def pausing(run: MadeRun) -> None:
    working(run)
    run.say(PauseRequested(t=T, request_id="r"))


def aborting(run: MadeRun) -> None:
    working(run)
    run.say(AbortRequested(t=T, request_id="r", when="round"))


STATES = (working, paused, failed, completed, aborted, pausing, aborting)
OFFERED: Mapping[Callable[[MadeRun], None], tuple[str, str]] = {
    working: ("Completions Metrics Pause Tweak Logs", "Changes Fork New Abort"),
    paused: ("Resume Tweak Completions Metrics", "Logs Changes Fork New Abort"),
    failed: ("Retry Logs Tweak Resume", "Completions Metrics Changes Fork New Abort"),
    completed: ("Completions Metrics Extend Fork", "Logs Changes New"),
    aborted: ("Changes New", ""),
    pausing: ("Completions Metrics Pause Tweak Logs", "Changes Fork New Abort"),
    aborting: ("Completions Metrics Logs", "Changes Fork New Abort"),
}  # fmt: skip
"""What the footer of the run screen has: what one does next, then the rest, each in its order."""


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    run = MadeRun(tmp_path / "runs", num_rounds=5)
    run.supervised()
    return run


def hints(app: HalosApp) -> list[str]:
    shown = app.screen.query_one(Footer).shown or ()
    return [hint.title for hint in shown if not hint.is_constant]


def starts(app: HalosApp, titles: str) -> bool:
    return " ".join(hints(app)).startswith(titles)


@pytest.mark.parametrize("state", STATES)
def test_the_footer_has_what_does_something_in_the_order_of_use(
    run: MadeRun, state: Callable[[MadeRun], None]
) -> None:
    state(run)
    first, then = OFFERED[state]

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            wanted = [*first.split(), *then.split()]
            await until(pilot, lambda: hints(app) == wanted, what=str(wanted))
            *_, one, two = screen_text(app).splitlines()
            shown = f"{one}  {two}"
            places = [shown.index(f" {title}") for title in wanted]
            assert places == sorted(places)
            assert "? Help  / Search  q Quit (runs go on)" in shown

    drive(look())


def test_the_footer_follows_the_run_and_the_key_has_its_name(run: MadeRun) -> None:
    working(run)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until_shown(pilot, "p Pause")
            run.finish_stage(2, "sample")
            run.say(RunPaused(t=T, reason="by its owner"))
            await until_shown(pilot, "p Resume")
            await pilot.press("question_mark")
            assert "p  Resume: Go on at the exact stage" in await until_shown(pilot, "All keys")
            await pilot.press("escape", "ctrl+p")
            await until(pilot, lambda: isinstance(app.screen, CommandPalette))
            app.screen.query_one(Input).value = "Resume"
            await until_shown(pilot, "Go on at the exact stage")

    drive(look())


def test_the_palette_offers_only_what_does_something(run: MadeRun) -> None:
    completed(run)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent, size=(100, 60)) as (
            app,
            pilot,
        ):
            await until(pilot, lambda: "Extend" in hints(app))
            await pilot.press("ctrl+p")
            shown = await until_shown(pilot, "More rounds for this run", "Its colours")
            for hidden in ("Stop for good", "Try the failed stage", "Pause at", "Change settings"):
                assert hidden not in shown

    drive(look())


def test_help_has_what_does_nothing_now_last_and_says_why(run: MadeRun) -> None:
    completed(run)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent, size=(100, 60)) as (
            app,
            pilot,
        ):
            await until(pilot, lambda: "Extend" in hints(app))
            await pilot.press("question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            pause, extend = "Pause at the end of the round", "More rounds for this run"
            shown = await until_shown(pilot, pause, extend)
            assert shown.index(extend) < shown.index(pause)
            lines = " ".join(shown.split())
            assert "not now: the run a-run is completed already" in lines
            assert "not now: the run a-run is completed: no stage of it has failed" in lines
            assert "not now: the run a-run is completed; e (Extend) adds rounds" in lines

    drive(look())


def test_a_key_that_is_hidden_answers_with_the_reason_in_keys(run: MadeRun) -> None:
    completed(run)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until(pilot, lambda: "Extend" in hints(app))
            await pilot.press("t")
            await until_told(pilot, "the run a-run is completed; e (Extend) adds rounds")
            await pilot.press("p")
            await until_told(pilot, "e (Extend) adds rounds; a new run: n (New)")
            await pilot.press("r")
            await until_told(pilot, "no stage of it has failed")
            assert app.opened == []

    with Answering(run) as supervisor:
        drive(look())
    assert supervisor.requests == []


def test_a_hidden_key_asks_for_what_became_possible_meanwhile(run: MadeRun) -> None:
    """The screen has read that the run fails by itself; the key looks again."""
    completed(run)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until(pilot, lambda: "Extend" in hints(app))
            for feed in app.first._feeds:
                feed.suspend()
            await pilot.pause(0.3)
            run.say(RunFailed(t=T, reason="no memory left"))
            assert "Retry" not in hints(app)
            await pilot.press("r")
            await until_told(pilot, "goes on")

    with Answering(run) as supervisor:
        drive(look())
    assert len(supervisor.requests) == 1


def test_the_list_offers_what_the_run_at_its_cursor_can(tmp_path: Path) -> None:
    for name, state in (("one", completed), ("two", failed)):
        state(MadeRun(tmp_path, name))

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "one", "two")
            await pilot.press("s", "home")
            await until(
                pilot, lambda: hints(app)[:4] == ["Open", "Completions", "Metrics", "Extend"]
            )
            await pilot.press("down")
            await until(pilot, lambda: starts(app, "Open Retry Logs Tweak"))
            await pilot.press("ctrl+a")
            await until(
                pilot, lambda: hints(app)[:5] == ["Open", "Metrics", "Resume", "Abort", "Retry"]
            )
            assert not {"Tweak", "Fork", "Logs"} & {*hints(app)}

    drive(look())


def test_runs_that_stand_as_before_leave_the_keys_alone(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        completed(MadeRun(tmp_path, name))

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "one", "two", "three")
            await until(pilot, lambda: "Extend" in hints(app))
            await pilot.pause()
            num_refreshed = 0

            def count(_screen: object) -> None:
                nonlocal num_refreshed
                num_refreshed += 1

            app.screen.bindings_updated_signal.subscribe(app, count)
            await pilot.press("down", "down", "up")
            await pilot.pause()
            assert num_refreshed == 0

    drive(look())


def test_a_run_that_cannot_be_read_offers_nothing_of_runs(tmp_path: Path) -> None:
    seen = [SeenRun(MadeRun(tmp_path, "bad").dir)]

    assert why_not("abort", seen) == "the run bad cannot be read"
    assert why_not("open", seen) == ""
    assert why_not("new_run", seen) == ""


# --- the footer's lines ----------------------------------------------------------------------


def hint(key: str, title: str, *, is_constant: bool = False) -> Hint:
    return Hint(key, title, key, is_constant)


KEYS = (hint("a", "one"), hint("b", "two"), hint("c", "three"), hint("q", "Quit", is_constant=True))
"""Their widths are 5, 5, 7 and 6, with two blanks between: 21 beside 6."""


@pytest.mark.parametrize(
    ("width", "most", "lines"),
    [
        (29, 2, ["a one  b two  c three | q Quit"]),
        (28, 2, ["a one  b two  c three | ", " | q Quit"]),
        (21, 2, ["a one  b two  c three | ", " | q Quit"]),
        (20, 2, ["a one  b two | ", "c three | q Quit"]),
        (14, 2, ["a one  b two | ", " | q Quit"]),
        (28, 1, ["a one  b two | q Quit"]),
        (9, 1, [" | q Quit"]),
    ],
)
def test_a_second_line_has_what_the_first_does_not_hold(
    width: int, most: int, lines: list[str]
) -> None:
    def text(found: object) -> str:
        assert isinstance(found, list)
        return "  ".join(f"{hint.key} {hint.title}" for hint in found)

    rows = rows_of(KEYS, width, most=most)
    assert [f"{text(left)} | {text(right)}" for left, right in rows] == lines


@pytest.mark.parametrize("height", [23, 24])
def test_a_screen_of_24_lines_has_two_of_keys(run: MadeRun, height: int) -> None:
    working(run)

    async def look() -> None:
        size = (80, height)
        async with opened(run_screen(run.dir), root=run.dir.path.parent, size=size) as (app, pilot):
            await until(pilot, lambda: "Fork" in hints(app))
            await pilot.pause()
            assert app.screen.query_one(Footer).size.height == (2 if height >= 24 else 1)
            await pilot.resize_terminal(80, 23)
            await until(pilot, lambda: app.screen.query_one(Footer).size.height == 1)
            await pilot.resize_terminal(80, 30)
            await until(pilot, lambda: app.screen.query_one(Footer).size.height == 2)
            await pilot.resize_terminal(200, 30)
            await until(pilot, lambda: app.screen.query_one(Footer).size.height == 1)

    drive(look())


def test_no_width_cuts_the_name_of_a_key(run: MadeRun) -> None:
    working(run)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (app, pilot):
            await until(pilot, lambda: "Fork" in hints(app))
            footer = app.screen.query_one(Footer)
            whole = {f"{one.key} {one.title}" for one in footer.shown or ()}
            for width in range(40, 170):
                for line in footer.lines(footer.shown or (), width, 2):
                    text = "".join(piece for piece, _ in line)
                    assert {part.strip() for part in text.split("  ")} <= {*whole, ""}, text

    drive(look())


def begun(run: MadeRun) -> None:
    run.start_round(1)
    run.start_stage(1, "sample").log.touch()


def two_rounds(run: MadeRun) -> None:
    for round in (1, 2):
        run.whole_round(round)
        write_round_files(run, round, "pairwise")


@pytest.mark.parametrize(
    ("screen", "state", "before", "hidden", "key", "why"),
    [
        (CompletionsScreen, two_rounds, (), "After", "]", "that is the newest one"),
        (CompletionsScreen, two_rounds, ("[",), "Before", "[", "that is the first round"),
        (CompletionsScreen, two_rounds, ("/", *"zzz", "enter"), "Mark", "m", "nothing fits"),
        (LogsScreen, begun, (), "Copy", "y", "nothing is written yet"),
        (lambda run_dir: MetricsScreen([run_dir]), begun, (), "Overlay", "o", "no other round yet"),
        (lambda run_dir: MetricsScreen([run_dir]), begun, (), "Read", "enter", "no chart here"),
        (ChangesScreen, lambda run: None, (), "Older", "{", "no round has begun yet"),
    ],
)
def test_a_screen_about_a_part_hides_what_does_nothing_there(
    run: MadeRun,
    screen: Callable[[RunDir], Screen[Any]],
    state: Callable[[MadeRun], None],
    before: tuple[str, ...],
    hidden: str,
    key: str,
    why: str,
) -> None:
    state(run)

    async def look() -> None:
        async with opened(partial(screen, run.dir), root=run.dir.path.parent, size=(200, 60)) as (
            app,
            pilot,
        ):
            if before:
                await until(pilot, lambda: hidden in hints(app), what=f"{hidden} in the footer")
                await pilot.press(*before)
            await until(pilot, lambda: hints(app) and hidden not in hints(app), what=hidden)
            assert not app._notifications
            await pilot.press(key)
            await until_told(pilot, why)

    drive(look())


def test_in_ascii_a_key_has_its_name_where_others_have_a_symbol(run: MadeRun) -> None:
    completed(run)

    async def look() -> None:
        root = run.dir.path.parent
        async with opened(RunsScreen, root=root, size=(120, 40), is_ascii=True) as (_, pilot):
            shown = await until_shown(pilot, "a-run", "enter Open", "enter open")
            assert "u23ce" not in shown
            await pilot.press("question_mark")
            await until_shown(pilot, "enter  Open: Open the run at the cursor")

    drive(look())

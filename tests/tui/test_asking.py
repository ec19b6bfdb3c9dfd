"""What a person does while a thread still answers what was asked before: nothing of it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from halos_backend.store.registry import load_state
from textual.pilot import Pilot
from textual.screen import Screen

from halos_tui.changes.reader import ChangesReader
from halos_tui.changes.screen import ChangeList, ChangesScreen
from halos_tui.completions.reader import CompletionsReader
from halos_tui.completions.screen import CompletionsScreen
from halos_tui.feed import Feed, Updated
from halos_tui.logs.log_view import LogRows
from halos_tui.logs.reader import LogReader
from halos_tui.logs.screen import LogsScreen
from halos_tui.metrics.reader import MetricsReader
from halos_tui.metrics.screen import MetricsScreen
from halos_tui.run.reader import RunReader
from halos_tui.run.screen import RunScreen
from halos_tui.settings.tweak_screen import TweakScreen
from tests.support.app_fixtures import OneScreenApp, drive, opened, screen_text, until, until_shown
from tests.support.changes_fixtures import change
from tests.support.made_run import MadeRun, write_round_files
from tests.support.waiting import wait_for

DEADLINE_S = 60.0
NEVER_S = 3600.0
BACK, ON = "left_square_bracket", "right_square_bracket"
Act = Callable[[OneScreenApp, Pilot[int]], Coroutine[Any, Any, None]]


class Held:
    """Keeps every view that a reader has made from its screen, from `hold` to `let_go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reader: type[Any]) -> None:
        self._may_go = threading.Event()
        self._may_go.set()
        self._has_one = threading.Event()
        read = reader.read

        def held(one: Any) -> Any:
            view = read(one)
            if view is not None and not self._may_go.is_set():
                self._has_one.set()
                self._may_go.wait(DEADLINE_S)
            return view

        monkeypatch.setattr(reader, "read", held)

    async def hold(self, pilot: Pilot[int], cause: Callable[[], object]) -> None:
        """`cause` makes another view; returns once that is made and kept."""
        self._may_go.clear()
        self._has_one.clear()
        cause()
        await until(pilot, self._has_one.is_set, what="a view to be made")

    def let_go(self) -> None:
        self._may_go.set()


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type[Any]], Held]]:
    held: list[Held] = []

    def begin(reader: type[Any]) -> Held:
        held.append(Held(monkeypatch, reader))
        return held[-1]

    yield begin
    for one in held:
        one.let_go()


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path / "runs", num_rounds=9, num_prompts=18)


def on(run: MadeRun, screen: Callable[[], Screen[Any]], act: Act) -> None:
    async def look() -> None:
        async with opened(screen, root=run.dir.path.parent) as (app, pilot):
            await act(app, pilot)

    drive(look())


def log_of(run: MadeRun, *, rounds: int = 1) -> Path:
    """Of the newest attempt, with a long line."""
    for round in range(1, rounds + 1):
        run.whole_round(round)
    path = run.dir.attempt(rounds, "train", 1).log
    path.write_bytes(b"".join(b"%04d " % number for number in range(100)) + b"\nshort\n")
    return path


def longer(path: Path) -> None:
    with path.open("ab") as log:
        log.write(b"more\n")


class Answers:
    """Counts the reads of a feed that delivers each of them."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered: list[int] = []
        self.feed: Feed[int] = Feed(
            lambda: self.asked, deliver=self._take, fail=str, interval_s=NEVER_S
        )
        self.feed.start()

    def _take(self, view: int) -> None:
        self.answered.append(view)

    def ask(self, what: int) -> None:
        self.asked = what
        self.feed.hurry()


def test_a_question_while_a_view_is_drawn_is_answered_once_it_is() -> None:
    answers = Answers()
    wait_for(lambda: answers.answered == [0])

    answers.ask(1)
    answers.ask(2)
    assert answers.answered == [0], "nothing is read before the view is drawn"
    answers.feed.is_drawn.set()

    wait_for(lambda: answers.answered == [0, 2])
    answers.feed.stop()


def test_a_question_to_a_feed_that_stands_still_is_answered_when_it_goes_on() -> None:
    answers = Answers()
    wait_for(lambda: answers.answered == [0])

    answers.feed.suspend()
    answers.ask(1)
    answers.feed.is_drawn.set()
    answers.feed.resume()

    wait_for(lambda: answers.answered == [0, 1])
    answers.feed.stop()


def test_a_feed_that_is_stopped_before_its_view_is_drawn_ends() -> None:
    answers = Answers()
    wait_for(lambda: answers.answered == [0])

    answers.feed.stop()

    wait_for(lambda: not answers.feed._thread.is_alive())


def test_a_log_moves_sideways_while_its_new_lines_are_being_read(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    path, held = log_of(run), hold(LogReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "0000 0001", "short")
        await held.hold(pilot, lambda: longer(path))
        await pilot.press("right", "right")
        held.let_go()
        # 32 cells, that is 6 numbers and 2 digits
        await until(pilot, lambda: screen_text(app).splitlines()[1].startswith("06 0007"))
        await until_shown(pilot, "following")

    on(run, lambda: LogsScreen(run.dir), act)


def test_a_hit_stays_in_sight_when_one_moves_while_it_is_looked_for(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    log_of(run)
    held = hold(LogReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "0000 0001", "short")
        await pilot.press("g")
        await until_shown(pilot, "not following")
        await pilot.press("slash", *"0090")
        await held.hold(pilot, lambda: app.simulate_key("enter"))
        await pilot.press("right")
        held.let_go()
        await until_shown(pilot, "0090")
        await until(pilot, lambda: app.screen.asked.query == app.screen.view.query)
        assert "0090" in screen_text(app)

    on(run, lambda: LogsScreen(run.dir), act)


def test_a_jump_is_made_also_when_one_wraps_before_it_is(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    path, held = log_of(run), hold(LogReader)
    path.write_bytes(b"".join(b"line %d of it\n" % number for number in range(900)))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "line 899 of it")
        await held.hold(pilot, lambda: longer(path))
        await pilot.press("g", "w")
        held.let_go()
        await until_shown(pilot, "line 0 of it")

    on(run, lambda: LogsScreen(run.dir), act)


def test_a_row_up_while_new_lines_are_on_their_way_ends_the_following(run: MadeRun) -> None:
    log_of(run)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "short", "following")
        screen, rows = app.screen, app.screen.query_one(LogRows)
        rows.action_move(-1)
        view = replace(screen.view, window=replace(screen.view.window))
        screen.on_updated(Updated(view))  # before the screen hears of the move
        await until_shown(pilot, "not following")
        assert rows.cursor == 0

    on(run, lambda: LogsScreen(run.dir), act)


def test_brackets_count_while_another_log_is_being_read(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    path, held = log_of(run, rounds=2), hold(LogReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "train of round 2")
        await held.hold(pilot, lambda: longer(path))
        await pilot.press(*[BACK] * 4)
        held.let_go()
        await until_shown(pilot, "label of round 1")  # past label and sample of 2, and train of 1

    on(run, lambda: LogsScreen(run.dir), act)


def test_brackets_count_while_a_round_of_completions_is_being_listed(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    for round in (1, 2, 3, 4):
        run.whole_round(round)
        write_round_files(run, round)
    held = hold(CompletionsReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "round 4 of 4", "beta  round 4")
        await held.hold(pilot, lambda: app.simulate_key(BACK))
        await pilot.press(BACK)
        held.let_go()
        await until_shown(pilot, "round 2 of 4", "beta  round 2")

    on(run, lambda: CompletionsScreen(run.dir), act)


def test_keys_count_while_charts_are_being_made(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    for round in (1, 2, 3, 4):
        run.whole_round(round)
    held = hold(MetricsReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "by round")
        await held.hold(pilot, lambda: app.simulate_key("x"))
        await pilot.press("x")
        held.let_go()
        await until(pilot, lambda: app.screen.view.query == app.screen.asked.query)
        assert app.screen.view.kind == "round"
        await held.hold(pilot, lambda: app.simulate_key(BACK))
        await pilot.press(BACK)
        held.let_go()
        await until_shown(pilot, "by step, round 2")

    on(run, lambda: MetricsScreen([run.dir]), act)


def test_another_change_takes_its_rounds_along_while_a_page_is_being_made(run: MadeRun) -> None:
    run.whole_round(1)
    change(run, 2, train__lr=1e-6)
    run.whole_round(2)
    change(run, 3, train__lr=2e-6)
    run.whole_round(3)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "round 2 -> round 3")
        await pilot.press("left_curly_bracket")
        await until_shown(pilot, "round 1 -> round 3", "by hand")
        screen = app.screen
        screen.query_one(ChangeList).action_move(1)
        screen.on_updated(Updated(screen.view))  # before the screen hears of the move
        await until_shown(pilot, "round 1 -> round 2")
        assert "by hand" not in screen_text(app)

    on(run, lambda: ChangesScreen(run.dir), act)


def test_keys_count_while_a_page_of_changes_is_being_made(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    for round in (1, 2, 3, 4):
        run.whole_round(round)
    held = hold(ChangesReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "round 3 -> round 4")
        await held.hold(pilot, lambda: app.simulate_key("left_curly_bracket"))
        await pilot.press("left_curly_bracket")
        held.let_go()
        await until_shown(pilot, "round 1 -> round 4")

    on(run, lambda: ChangesScreen(run.dir), act)


def test_a_round_is_chosen_while_the_run_is_being_read(
    run: MadeRun, hold: Callable[[type[Any]], Held]
) -> None:
    for round in (1, 2, 3):
        run.whole_round(round)
    held = hold(RunReader)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "round 3 of 9")
        await held.hold(pilot, lambda: app.simulate_key("up"))
        await pilot.press("up")
        held.let_go()
        await until(pilot, lambda: app.screen.view.distribution.round == 1)
        assert app.screen.selected_round == 1

    on(run, lambda: RunScreen(run.dir), act)


def test_settings_are_those_of_a_round_that_began_while_one_chose_it(run: MadeRun) -> None:
    run.start_round(1)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "changes hold from round 2 on")
        tweak = app.screen
        tweak._feeds[0].stop()  # what is said below is the last that it says
        await pilot.press("F")
        await until_shown(pilot, "From which round on?")
        run.finish_round(1)
        run.start_round(2)
        tweak.on_updated(Updated(load_state(run.dir)))  # it was on its way
        await pilot.press("backspace", "5", "enter")
        await until_shown(pilot, "is running, round 2 of", "changes hold from round 5 on")

    on(run, lambda: TweakScreen(run.dir), act)

"""A person's own marks on answers, and notes about them: made on the screen, kept in the run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.records import write_rows
from halos_backend.store.own_words import OwnMark, read_own_marks, toggle_marks
from textual.pilot import Pilot

from halos_tui.completions.screen import CompletionsScreen
from tests.support.app_fixtures import (
    OneScreenApp,
    drive,
    opened,
    screen_text,
    until,
    until_shown,
    until_told,
)
from tests.support.made_run import GROUPS, MadeRun, completion, write_round_files

Act = Callable[[OneScreenApp, Pilot[int]], Coroutine[Any, Any, None]]
HELLO = (1, "beta", "c0")


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    run = MadeRun(tmp_path / "runs")
    run.whole_round(1)
    write_round_files(run, 1)
    return run


def on(run: MadeRun, act: Act, **options: Any) -> None:
    async def look() -> None:
        screen, root = CompletionsScreen(run.dir), run.dir.path.parent
        async with opened(lambda: screen, root=root, size=(100, 30), **options) as (app, pilot):
            await until_shown(pilot, "1 of ", "Say hello.", "policy 0")
            await act(app, pilot)

    drive(look())


def test_m_marks_an_answer_and_takes_the_mark_away(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("m")
        await until_shown(pilot, "beta             * hello", "rejected  * marked")
        assert read_own_marks(run.dir).of == {HELLO: OwnMark(*HELLO, is_marked=True)}
        await pilot.press("m")
        await until(pilot, lambda: "* " not in screen_text(app))
        assert not run.dir.own_marks.exists()

    on(run, act)


def test_keys_in_a_burst_mark_what_they_are_about(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("m", "m", "m")
        await until_shown(pilot, "* hello")
        assert set(read_own_marks(run.dir).of) == {HELLO}

    on(run, act)


def test_e_writes_a_note_and_takes_it_away(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("e", *"too short, again and again", "enter")
        await until_shown(pilot, "(too short, again a..) hello", "note: too short, again and again")
        await pilot.press("e")
        await until_shown(pilot, "note too short")
        await pilot.press("ctrl+u", "enter")
        await until(pilot, lambda: "(too" not in screen_text(app))
        assert not run.dir.own_marks.exists()

    on(run, act)


def test_marks_and_notes_are_found_by_the_filter(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("m", "down")
        await until_shown(pilot, "2 of 4", "reward 0.75")
        await pilot.press("e", *"Polite", "enter")
        await until_shown(pilot, "(Polite)")
        await pilot.press("slash", *"marked:", "enter")
        await until_shown(pilot, "1 of 1", "reward 0.25")
        await pilot.press("m")
        await until_shown(pilot, "nothing fits the filter")
        await pilot.press("slash", "ctrl+u", *"note:polite", "enter")
        await until_shown(pilot, "1 of 1", "reward 0.75")
        await pilot.press("slash", "ctrl+u", *"note~^olite", "enter")
        await until_shown(pilot, "nothing fits the filter")
        await pilot.press("slash", "ctrl+u", *"-note:", "enter")
        await until_shown(pilot, "of 3")

    on(run, act)


def test_the_same_answers_are_marked_together(run: MadeRun) -> None:
    same = tuple(completion(number, "yes", 0.5) for number in range(3))
    group = msgspec.structs.replace(GROUPS[0], completions=same)
    write_rows(run.dir.attempt(1, "label", 1).scores, [group])
    write_rows(run.dir.attempt(1, "label", 1).feedback, [])

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("m")
        await until_shown(pilot, "* 3x yes")
        assert {key[2] for key in read_own_marks(run.dir).of} == {"c0", "c1", "c2"}

    on(run, act)


def test_marks_of_another_program_appear(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        toggle_marks(run.dir, [(1, "alpha", "c0"), (2, "beta", "c0")])
        await until_shown(pilot, "* two")
        assert screen_text(app).count("* ") == 1

    on(run, act)


def test_damage_is_named_and_hides_nothing(run: MadeRun) -> None:
    toggle_marks(run.dir, [HELLO])
    with run.dir.own_marks.open("ab") as file:
        file.write(b"rubbish\n")

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "left out: own_marks.jsonl, line 2: ", "* hello")

    on(run, act)


def test_what_cannot_be_written_is_said(run: MadeRun) -> None:
    run.dir.own_marks.mkdir()

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("m")
        await until_told(pilot, "not a regular file; nothing was written")

    on(run, act)


def test_read_only_marks_nothing(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        assert "Mark" not in screen_text(app)
        await pilot.press("m", "e", "down")
        await until_shown(pilot, "2 of 4")
        assert not run.dir.own_marks.exists()

    on(run, act, read_only=True)

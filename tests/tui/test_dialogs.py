"""The dialogs by themselves: keys, sizes, text from elsewhere; and the fork dialog for real."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from halos_backend.events import PauseRequested, Progressed, RunPaused
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.writer import EventWriter
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from halos_tui.control.actions import abort_dialog
from halos_tui.control.stopping import abort_times, stays, stops
from halos_tui.new_run.fork_dialog import ForkDialog
from halos_tui.screens.dialogs import Choice, ChoiceDialog, EntryDialog, check_rounds
from halos_tui.tracking.status import observe
from tests.support.answering import wait_for_guardians
from tests.support.app_fixtures import OneScreenApp, drive, opened, screen_text, until, until_shown
from tests.support.forks import forking_python
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.place import Place, make_place, make_policy

SIZES = [(80, 24), (200, 60), (40, 10)]
HOSTILE = "\x1b]52;c;aGk=\x07[red]x[/red]\u202e"
SHOWN = "\\x1b]52;c;aGk=\\x07[red]x[/red]\\u202e"
Act = Callable[[OneScreenApp, Pilot[int]], Coroutine[Any, Any, None]]
LETTERS = [Choice("a", "the first", 1), Choice("b", "the second", 2)]


def answer_to(
    dialog: ChoiceDialog[Any] | EntryDialog, *keys: str, size: tuple[int, int] = (80, 24)
) -> object:
    """What the dialog gives after these keys; `...` while it is still open."""
    answers: list[object] = []

    async def do() -> None:
        async with opened(Screen, root=Path("/nowhere"), size=size) as (app, pilot):
            app.push_screen(dialog, answers.append)
            await until(pilot, lambda: dialog.focused is not None)
            await pilot.press(*keys)
            await pilot.pause(0.1)

    drive(do())
    return answers[0] if answers else ...


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["a"], 1),
        (["b"], 2),
        (["enter"], None),
        (["down", "enter"], 1),
        (["down", "down", "enter"], 2),
        (["escape"], None),
        (["n"], None),
        (["x", "y", "q", "pagedown"], ...),
    ],
)
def test_a_choice_is_made_by_letter_or_enter_which_at_first_changes_nothing(
    keys: list[str], answer: object, size: tuple[int, int]
) -> None:
    assert answer_to(ChoiceDialog("Which?", "", LETTERS), *keys, size=size) == answer


def test_an_entry_gives_its_text_once_it_is_right() -> None:
    def entry(value: str = "") -> EntryDialog:
        return EntryDialog("How many?", value=value, check=check_rounds)

    assert answer_to(entry(), "1", "2", "enter") == "12"
    assert answer_to(entry("3"), "enter") == "3"
    assert answer_to(entry(), "x", "enter") is ...
    assert answer_to(entry(), "0", "enter") is ...
    assert answer_to(entry("3"), "escape") is None


def test_hostile_text_is_shown_as_escapes() -> None:
    async def do() -> None:
        async with opened(Screen, root=Path("/nowhere"), size=(200, 24)) as (app, pilot):
            app.push_screen(ChoiceDialog(HOSTILE, HOSTILE, [Choice("a", HOSTILE, 1)]))
            shown = await until_shown(pilot, SHOWN)
            assert shown.count(SHOWN) == 3
            assert "\x1b" not in shown
            assert "\u202e" not in shown

    drive(do())


def test_long_texts_scroll() -> None:
    async def do() -> None:
        async with opened(Screen, root=Path("/nowhere")) as (app, pilot):
            text = "\n".join(f"line {number}" for number in range(100))
            app.push_screen(ChoiceDialog("Which?", text, LETTERS))
            await until_shown(pilot, "Which?", "line 1")
            for _ in range(10):
                await pilot.press("pagedown")
            await until_shown(pilot, "line 99", "the second")
            for _ in range(10):
                await pilot.press("pageup")
            await until_shown(pilot, "Which?")

    drive(do())


# --- abort ----------------------------------------------------------------------------------


def test_abort_says_how_far_the_running_stage_is(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.whole_round(1)
    run.start_round(2)
    attempt = run.start_stage(2, "sample")
    about = {"round": 2, "stage": "sample", "attempt": 1, "unit": "prompts", "total": 40}
    with EventWriter(attempt.events) as writer:
        writer.append(Progressed(t=STARTED_T, done=0, **about))
        writer.append(Progressed(t=STARTED_T + 10, done=10, **about))
    seen = observe(run.dir)

    # 30 prompts at one a second
    assert stops(seen) == ("Stops: sample of round 2, 10 of 40 prompts (25.0%), about 30s left.")
    assert f"the checkpoint of round 1 as the result, {run.dir.final}" in stays(run.dir, seen)
    assert abort_times(seen) == ["now", "stage", "round"]


def test_abort_of_a_run_without_a_finished_round_says_that_nothing_comes_of_it(
    tmp_path: Path,
) -> None:
    run = MadeRun(tmp_path)
    run.start_round(1)
    run.start_stage(1, "sample")

    assert "there is no result" in stays(run.dir, observe(run.dir))


def test_abort_offers_only_what_there_is(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.whole_round(1)
    assert abort_times(observe(run.dir)) == ["now", "round"], "no stage runs"
    run.say(PauseRequested(t=STARTED_T + 50, request_id="r1"))
    run.say(RunPaused(t=STARTED_T + 51, reason="by its owner"))
    seen = observe(run.dir)

    assert abort_times(seen) == ["now"]
    assert "Nothing runs: the run is paused" in stops(seen)
    assert answer_to(abort_dialog(run.dir, seen), "o") == "now"
    for key in ("enter", "n", "escape"):
        assert answer_to(abort_dialog(run.dir, seen), key) is None
    assert answer_to(abort_dialog(run.dir, seen), "a") is ...


# --- fork -----------------------------------------------------------------------------------


def on_fork(run_dir: RunDir, act: Act, *, size: tuple[int, int] = (80, 24)) -> list[RunDir | None]:
    """Act on the dialog; what it gave."""
    given: list[RunDir | None] = []

    async def do() -> None:
        root = run_dir.path.parent
        async with opened(Screen, root=root, size=size) as (app, pilot):
            app.push_screen(ForkDialog(run_dir, load_state(run_dir), root=root), given.append)
            await until(pilot, lambda: app.screen.query("#changes"))
            await act(app, pilot)

    drive(do())
    return given


def test_fork_says_at_once_what_cannot_be(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)
    run.whole_round(1)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        field = app.screen.query_one("#round", Input)
        assert field.value == "1"
        await until_shown(pilot, "is gone; can be forked: 1")
        field.value = "7"
        await until_shown(pilot, "the run a-run has no round 7")
        field.value = "x"
        await until_shown(pilot, "name the round")
        field.value = "1"
        await pilot.press("tab", *"a-run")
        await until_shown(pilot, "a run named 'a-run' exists")
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert isinstance(app.screen, ForkDialog)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ForkDialog))

    assert on_fork(run.dir, act) == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["a-run"]


@pytest.mark.parametrize("size", [(40, 10), (60, 12)])
def test_fork_on_a_small_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    run = MadeRun(tmp_path, num_rounds=5, num_prompts=10)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("3", "tab", "a", "tab", "b", "enter")
        await pilot.pause(0.2)
        assert app.is_running

    on_fork(run.dir, act, size=size)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "policy"
    make_policy(path)
    return path


def test_a_real_fork_is_made_and_started(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", forking_python())
    place: Place = make_place(policy, tmp_path, python=sys.executable)
    config = str(place.config(loop__num_rounds=1))
    assert place.halos("run", config, "--no-ui", "--name", "old").code == 0

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("tab", *"new", "tab", *"train.lr=fast")
        await until_shown(pilot, "train.lr: takes a number above 0")
        app.screen.query_one("#changes", Input).value = "train.lr=1e-4 loop.num_rounds=1"
        await until(pilot, lambda: "takes a number" not in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, ForkDialog))

    (made,) = on_fork(RunDir(place.runs / "old"), act)

    assert made == RunDir(place.runs / "new")
    assert place.halos("watch", "new").code == 0
    wait_for_guardians()
    state = load_state(RunDir(place.runs / "new"))
    assert state.rounds[0].settings["train"]["lr"] == 1e-4
    assert state.forked_from is not None

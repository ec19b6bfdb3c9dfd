"""The tweak screen: what it shows, what each key does, and what reaches the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from halos_backend.client import start
from halos_backend.events import STAGES, RunFailed, RunPaused, SettingsChanged
from halos_backend.store import requests
from halos_backend.store.identity import lock_holder
from halos_backend.store.registry import load_state
from textual.pilot import Pilot
from textual.widgets import Input

from halos_tui.run.screen import RunScreen
from halos_tui.settings.rows_list import SettingsRows
from halos_tui.settings.tweak_screen import TweakScreen
from tests.support.answering import Answering, wait_for_guardians
from tests.support.app_fixtures import OneScreenApp, drive, opened, screen_text, until, until_shown
from tests.support.drive_halos import fake_supervisor
from tests.support.fake_run import MARK, FakeRun
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.waiting import wait_for

SIZES = [(80, 24), (120, 40), (200, 60)]
Act = Callable[[OneScreenApp, Pilot[int]], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    made = MadeRun(tmp_path / "runs", num_rounds=5, num_prompts=10)
    made.supervised()
    made.whole_round(1)
    made.start_round(2)
    made.start_stage(2, "sample")
    return made


def on_tweak(run: MadeRun, act: Act, *, size: tuple[int, int] = (80, 24), **options: bool) -> None:
    """With the form on the screen of the run, to which it goes back."""

    async def do() -> None:
        root = run.dir.path.parent
        async with opened(lambda: RunScreen(run.dir), root=root, size=size, **options) as (
            app,
            pilot,
        ):
            app.push_screen(TweakScreen(run.dir))
            await until_shown(pilot, "changes hold from round")
            await until(pilot, lambda: app.screen.query_one(SettingsRows).shown)
            await act(app, pilot)

    drive(do())


def notices(app: OneScreenApp) -> str:
    return "\n".join(notice.message for notice in app._notifications)


def rows(app: OneScreenApp) -> SettingsRows:
    return app.screen.query_one(SettingsRows)


def paths(app: OneScreenApp) -> list[str]:
    shown = rows(app).shown
    return [] if shown is None else [row.path for row in shown.rows]


async def search_for(pilot: Pilot[int], path: str) -> None:
    """As a person would; then show all again, with the cursor there."""
    await pilot.press("slash", *path, "enter")
    await until(pilot, lambda: (row := rows(app_of(pilot)).row) and row.path.endswith(path))
    rows(app_of(pilot)).go_to(path)
    await pilot.press("escape")


async def go_to(pilot: Pilot[int], path: str) -> None:
    """Have the cursor there, without the keys of a search."""
    rows(app_of(pilot)).go_to(path)
    await until(pilot, lambda: (row := rows(app_of(pilot)).row) and row.path == path)


def heading_of(shown: str) -> str:
    return next(line for line in shown.splitlines() if line.split()[:2] == ["setting", "now"])


def app_of(pilot: Pilot[int]) -> OneScreenApp:
    app = pilot.app
    assert isinstance(app, OneScreenApp)
    return app


async def type_over(pilot: Pilot[int], text: str) -> None:
    """Open the field at the cursor and type something else."""
    await pilot.press("enter")
    field = pilot.app.screen.query_one("#value", Input)
    await until(pilot, lambda: field.has_focus)
    field.value = ""
    await pilot.press(*text)


# --- what it shows --------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_it_shows_what_is_now_and_what_holds_next(run: MadeRun, size: tuple[int, int]) -> None:
    changes = {"train.lr": (5e-6, 1e-6)}
    run.say(SettingsChanged(t=STARTED_T + 20, request_id="r1", from_round=3, changes=changes))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await search_for(pilot, "train.lr")
        shown = await until_shown(pilot, "train.lr: Peak learning rate.")
        assert "a-run is running, round 2 of 5; changes hold from round 3 on" in shown
        line = next(line.strip("│ ") for line in shown.splitlines() if " lr " in line)
        assert line.split()[:3] == ["lr", "5e-6", "1e-6"]

    on_tweak(run, act, size=size)


@pytest.mark.parametrize("size", SIZES[:2])
def test_a_value_is_edited_in_its_own_row(run: MadeRun, size: tuple[int, int]) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        lines = screen_text(app).splitlines()
        y = next(y for y, line in enumerate(lines) if "train.lr " in line)
        x = next(
            line.index("from round") for line in lines if "from round" in line and "now" in line
        )
        await type_over(pilot, "1e-6")
        field = app.screen.query_one("#value", Input).region
        assert (field.x, field.y) == (x, y)

    on_tweak(run, act, size=size)


def test_it_begins_with_what_people_change(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        often = [
            "train.lr",
            "train.loss.beta",
            "loop.num_rounds",
            "loop.prompts_per_round",
            "sample.group_size",
            "sample.temperature",
            "loop.num_prompts",
        ]
        _, _, listed = screen_text(app).partition("often changed")
        assert [line.split()[0] for line in listed.splitlines()[1:8]] == often
        assert rows(app).row.path == "train.lr"  # type: ignore[union-attr]
        await type_over(pilot, "1e-5")
        await until_shown(pilot, "> the peak learning rate is 2 times that before")
        in_both = [line for line in screen_text(app).splitlines() if line.startswith("* ")]
        assert [line.split()[1] for line in in_both] == ["train.lr"]
        await pilot.press("enter", "tab", "enter")
        await until(pilot, lambda: "it is what the run trains" in notices(app))
        assert not app.screen.query_one("#value", Input).display

    on_tweak(run, act)


def test_letters_search_and_the_cursor_is_on_the_best_hit(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"beta")
        await until(pilot, lambda: rows(app).row.path == "train.loss.beta")  # type: ignore[union-attr]
        shown = [item.path for item in rows(app).listed if not isinstance(item, str)]
        assert shown[:3] == ["train.loss.beta", "train.adam_beta1", "train.adam_beta2"]
        await pilot.press("down")
        assert rows(app).row.path == "train.adam_beta1"  # type: ignore[union-attr]
        await pilot.press("escape")
        await until(pilot, lambda: rows(app).num_rows > 100)
        assert rows(app).row.path == "train.adam_beta1"  # type: ignore[union-attr]

    on_tweak(run, act)


def test_a_burst_of_keys_searches_edits_and_asks(run: MadeRun) -> None:
    """Of them "k" moves in other lists, and "F" asks for the round where nothing is typed."""

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        for key in (*"keep_best", "enter", "enter", "escape", *"lr", "enter", "enter", *"2e-6"):
            app.simulate_key(key)
        for key in ("enter", "F", "backspace", "4", "enter", "ctrl+s"):
            app.simulate_key(key)
        shown = await until_shown(pilot, "Change 2 settings from round 4 on?")
        assert "train.lr: 5e-6 -> 2e-6" in shown
        assert "loop.keep_best: true -> false" in shown

    on_tweak(run, act)


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (1, 1)])
def test_too_small_a_terminal_is_no_reason_to_end(run: MadeRun, size: tuple[int, int]) -> None:
    async def do() -> None:
        root = run.dir.path.parent
        async with opened(lambda: TweakScreen(run.dir), root=root, size=size) as (app, pilot):
            await until(pilot, lambda: app.first.query_one(SettingsRows).shown)
            await pilot.press("down", "enter", "9", "enter", "ctrl+s")
            await pilot.pause(0.2)
            assert app.is_running

    drive(do())


def test_all_can_be_reached_with_keys_alone(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        seen: set[str] = set()
        before = 0
        await pilot.press("home")
        while (row := rows(app).row) is not None and rows(app).cursor != before:
            before = rows(app).cursor
            seen.add(row.path)
            await pilot.press("down")
        assert seen == set(paths(app))
        await pilot.press("tab")
        assert rows(app).row.path == "train.lr"  # type: ignore[union-attr]
        await pilot.press("tab")
        assert rows(app).row.path == "policy.path"  # type: ignore[union-attr]
        await pilot.press("shift+tab", "shift+tab")
        assert rows(app).row.path == "notify.command"  # type: ignore[union-attr]

    on_tweak(run, act)


def test_ascii_draws_nothing_else(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("end")
        text = "\n".join(screen_text(app).splitlines()[:-1])
        assert "notify.timeout_s" in text

    on_tweak(run, act, is_ascii=True)


# --- typing ---------------------------------------------------------------------------------


def test_a_value_is_judged_as_one_types_and_refused_once_it_is_entered(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "train.lr")
        await type_over(pilot, "1e")
        await until(pilot, lambda: (view := rows(app).shown) and view.checked.problems)
        assert rows(app).shown.problems == {}  # type: ignore[union-attr]
        assert "! train.lr" not in screen_text(app)
        await pilot.press("minus", "5")
        await until_shown(pilot, "> the peak learning rate is 2 times that before")
        await until_shown(pilot, "$ halos-tui set a-run train.lr=1e-5")
        await pilot.press("backspace", "backspace", "enter")
        await until_shown(pilot, "! train.lr: takes a number above 0, not '1e'")

    on_tweak(run, act)


def test_escape_takes_back_what_is_being_typed(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "train.lr")
        await type_over(pilot, "1e-5")
        await until_shown(pilot, "halos-tui set a-run train.lr=1e-5")
        await pilot.press("escape")
        await until(pilot, lambda: "halos-tui set" not in screen_text(app))
        assert isinstance(app.screen, TweakScreen)

    on_tweak(run, act)


def test_letters_are_typed_and_no_commands_while_a_value_is_typed(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "train.reference")
        await type_over(pilot, "qyfu?")
        assert app.screen.query_one("#value", Input).value == "qyfu?"

    on_tweak(run, act)


def test_space_takes_the_next_value_and_left_the_one_before(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "train.loss.kind")
        await pilot.press("space")
        await until_shown(pilot, "train.loss.kind=cdpo")
        assert "train.loss.label_smoothing" in paths(app)
        await pilot.press("left")
        await until(pilot, lambda: "train.loss.label_smoothing" not in paths(app))
        await pilot.press("left")
        await until_shown(pilot, "train.loss.kind=bradley_terry")

    on_tweak(run, act)


def test_enter_on_a_yes_or_no_takes_the_other(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter")
        await until_shown(pilot, "loop.keep_best=false")

    on_tweak(run, act)


def test_backspace_takes_an_edit_back(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter")
        await until_shown(pilot, "loop.keep_best=false")
        await pilot.press("backspace")
        await until(pilot, lambda: "halos-tui set" not in screen_text(app))

    on_tweak(run, act)


def test_a_change_is_taken_back_by_one_key(run: MadeRun) -> None:
    changes = {"train.lr": (5e-6, 1e-6)}
    run.say(SettingsChanged(t=STARTED_T + 20, request_id="r1", from_round=3, changes=changes))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        shown = await until_shown(pilot, "5e-6 before round 3: backspace takes that back")
        line = next(line for line in shown.splitlines() if line.startswith("  train.lr "))
        assert line.split() == ["train.lr", "5e-6", "1e-6", "5e-6", "before", "round", "3"]
        await pilot.press("backspace")
        await until_shown(pilot, "> train.lr is what it was before round 3")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "Change 1 setting from round 3 on?", "is what it was before")
        await pilot.press("y")
        await until(pilot, lambda: "from round 3: train.lr 1e-06 -> 5e-06" in notices(app))

    with Answering(run):
        on_tweak(run, act)
    state = load_state(run.dir)
    assert len(state.changes) == 2
    assert state.settings_of(3)["train"]["lr"] == 5e-6


def test_a_change_that_waits_for_a_later_round_is_taken_back_from_that_one(run: MadeRun) -> None:
    changes = {"loop.keep_best": (True, False)}
    run.say(SettingsChanged(t=STARTED_T + 20, request_id="r1", from_round=5, changes=changes))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await type_over(pilot, "1e-5")
        await pilot.press("enter")
        await go_to(pilot, "loop.keep_best")
        await until_shown(pilot, "false from round 5 on: backspace takes that back")
        await pilot.press("backspace")
        await until(pilot, lambda: "apply what is edited here first" in notices(app))
        await go_to(pilot, "train.lr")
        await pilot.press("backspace", "backspace")
        await until(pilot, lambda: "train.lr has not been changed in this run" in notices(app))
        await go_to(pilot, "loop.keep_best")
        await pilot.press("backspace")
        await until_shown(
            pilot,
            "changes hold from round 5 on",
            "> loop.keep_best is what it was before round 5",
            "loop.keep_best=true --from-round 5",
        )

    on_tweak(run, act)


def test_a_guard_of_one_s_own(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        rows(app).go_to("guards")
        await type_over(pilot, "kl")
        await pilot.press("enter")
        await until_shown(pilot, "guards.kl: has no limit", "guards.kl.metric=loss_last")
        rows(app).go_to("guards.kl.above")
        await type_over(pilot, "9")
        await pilot.press("enter")
        await until(pilot, lambda: "has no limit" not in screen_text(app))

    on_tweak(run, act)


def test_y_copies_the_command(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter")
        await until_shown(pilot, "loop.keep_best=false")
        await pilot.press("y")
        root = run.dir.path.parent
        assert app.clipboard == f"halos-tui set a-run loop.keep_best=false --runs-dir {root}"

    on_tweak(run, act)


def test_leaving_with_edits_asks_first(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter")
        await until_shown(pilot, "loop.keep_best=false")
        await pilot.press("escape")
        await until_shown(pilot, "Leave, and forget 1 change?")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, TweakScreen))
        await pilot.press("escape")
        await until_shown(pilot, "Leave, and forget 1 change?")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))

    with Answering(run) as supervisor:
        on_tweak(run, act)
    assert supervisor.requests == []


# --- applying -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_ctrl_s_asks_with_all_that_follows_and_applies(run: MadeRun, size: tuple[int, int]) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.prompts_per_round")
        await type_over(pilot, "4")
        await pilot.press("enter", "ctrl+s")
        shown = await until_shown(pilot, "Change 1 setting from round 3 on?")
        said = " ".join(shown.split())
        assert "loop.prompts_per_round: 2 -> 4" in said
        assert "a round has at most 4 pairs instead of 2" in said
        assert "a round takes about 5s more" in said
        assert "$ halos-tui set a-run loop.prompts_per_round=4" in said
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await until(pilot, lambda: "from round 3: loop.prompts_per_round 2 -> 4" in notices(app))

    with Answering(run) as supervisor:
        on_tweak(run, act, size=size)

    (request,) = supervisor.requests
    assert isinstance(request, requests.Set)
    assert request.assignments == ("loop.prompts_per_round=4",)
    assert request.from_round == 3


def test_ctrl_s_in_the_middle_of_typing_applies_what_is_typed(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "train.lr")
        await type_over(pilot, "1e-5")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "Change 1 setting")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, TweakScreen))

    with Answering(run) as supervisor:
        on_tweak(run, act)
    assert supervisor.requests == []


def test_what_is_wrong_is_not_asked_for(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "nothing is changed yet" in notices(app))
        await go_to(pilot, "train.lr")
        await type_over(pilot, "0")
        await pilot.press("enter", "ctrl+s")
        await until(pilot, lambda: "train.lr: takes a number above 0" in notices(app))
        await pilot.press("ctrl+r")
        assert isinstance(app.screen, TweakScreen)

    with Answering(run) as supervisor:
        on_tweak(run, act)
    assert supervisor.requests == []


def test_a_refusal_is_told_and_nothing_is_lost(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter", "ctrl+s")
        await until_shown(pilot, "Change 1 setting")
        await pilot.press("y")
        await until(pilot, lambda: "the moon is full" in notices(app))
        assert isinstance(app.screen, TweakScreen)
        assert app.screen.form is not None
        assert app.screen.form.assignments == ("loop.keep_best=false",)

    with Answering(run, refusal="the moon is full"):
        on_tweak(run, act)


def test_another_round_can_be_chosen(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("F")
        await until_shown(pilot, "From which round on?")
        await pilot.press("backspace", "1", "enter")
        await until_shown(pilot, "round 1 is past; the next is 3")
        await pilot.press("backspace", "2", "enter")
        await until_shown(pilot, "round 2 is under way (sample runs)")
        await pilot.press("backspace", "4", "enter")
        await until_shown(pilot, "changes hold from round 4 on")
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter", "ctrl+s")
        await until_shown(pilot, "from round 4 on?", "--from-round 4")
        await pilot.press("y")
        await until(pilot, lambda: "from round 4" in notices(app))

    with Answering(run) as supervisor:
        on_tweak(run, act)
    assert isinstance(supervisor.requests[0], requests.Set)
    assert supervisor.requests[0].from_round == 4


def finish_round_2(run: MadeRun) -> None:
    """It ends, and the next begins, as a supervisor would have it."""
    for stage in STAGES:
        if stage != "sample":
            run.start_stage(2, stage)
        run.finish_stage(2, stage)
    run.finish_round(2)
    run.start_round(3)
    run.start_stage(3, "sample")


def test_a_round_that_begins_meanwhile_moves_the_change_to_the_next(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter")
        await until_shown(pilot, "loop.keep_best=false")
        await pilot.press("F")
        await until_shown(pilot, "Round 3 is the first that it can hold for")
        await pilot.press("enter")
        await until_shown(pilot, "changes hold from round 3 on", "--from-round 3")
        finish_round_2(run)
        shown = await until_shown(pilot, "changes hold from round 4 on", "loop.keep_best=false")
        assert "from round 4" in heading_of(shown)
        assert "--from-round" not in shown

    on_tweak(run, act)


def test_the_question_follows_the_run_and_what_it_says_is_what_is_done(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await type_over(pilot, "1e-5")
        await pilot.press("enter", "ctrl+s")
        await until_shown(pilot, "Change 1 setting from round 3 on?")
        finish_round_2(run)
        await until_shown(pilot, "Change 1 setting from round 4 on?", "train.lr: 5e-6 -> 1e-5")
        await pilot.press("y")
        await until(pilot, lambda: "from round 4: train.lr 5e-06 -> 1e-05" in notices(app))

    with Answering(run) as supervisor:
        on_tweak(run, act)
    (request,) = supervisor.requests
    assert isinstance(request, requests.Set)
    assert request.from_round == 4
    assert load_state(run.dir).changes[-1].from_round == 4


def test_a_question_of_a_run_that_ended_meanwhile_goes_away(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await type_over(pilot, "1e-5")
        await pilot.press("enter", "ctrl+s")
        await until_shown(pilot, "Change 1 setting from round 3 on?")
        run.complete()
        await until(pilot, lambda: "the run a-run is completed" in notices(app))
        assert isinstance(app.screen, TweakScreen)
        await until_shown(pilot, "the run a-run is completed")

    on_tweak(run, act)


def test_what_a_failed_round_has_done_already_holds_from_the_next_everywhere(run: MadeRun) -> None:
    run.finish_stage(2, "sample")
    run.start_stage(2, "label")
    run.fail_stage(2, "label", "out of memory")
    run.say(RunFailed(t=STARTED_T + 50, reason="label failed"))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "changes hold from round 2 on")
        await go_to(pilot, "sample.temperature")
        await type_over(pilot, "1.0")
        await pilot.press("enter")
        shown = await until_shown(
            pilot,
            "changes hold from round 3 on",
            "round 2 has done too much already to change that",
        )
        assert "from round 3" in heading_of(shown)
        await pilot.press("ctrl+s")
        await until_shown(pilot, "Change 1 setting from round 3 on?")
        await pilot.press("y")
        await until(pilot, lambda: "from round 3: sample.temperature 0.7 -> 1" in notices(app))

    with Answering(run):
        on_tweak(run, act)


def test_ctrl_r_applies_and_goes_on_with_a_paused_run(tmp_path: Path) -> None:
    run = MadeRun(tmp_path / "runs", num_rounds=5, num_prompts=10)
    run.whole_round(1)
    run.say(RunPaused(t=STARTED_T + 50, reason="by its owner"))

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter", "ctrl+r")
        await until_shown(pilot, "Change 1 setting from round 2 on, then the run goes on?")
        await pilot.press("y")
        await until(pilot, lambda: "goes on" in notices(app))

    with Answering(run) as supervisor:
        on_tweak(run, act)
    assert [type(request) for request in supervisor.requests] == [requests.Set, requests.Resume]


def test_a_run_that_has_ended_cannot_be_changed(tmp_path: Path) -> None:
    run = MadeRun(tmp_path / "runs")
    run.complete()

    async def do() -> None:
        root = run.dir.path.parent
        async with opened(lambda: TweakScreen(run.dir), root=root) as (app, pilot):
            await until_shown(pilot, "the run a-run is completed; esc, e (Extend) adds rounds")
            await pilot.press("enter", "space", "backspace", "F", "y", "ctrl+s", "ctrl+r")
            await pilot.pause(0.1)
            assert len(app.screen_stack) == 2

    drive(do())


def test_a_run_that_is_gone_is_a_notice(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        run.dir.path.rename(run.dir.path.with_name("gone"))
        await until(pilot, lambda: "no longer there" in notices(app))
        await go_to(pilot, "loop.keep_best")
        await pilot.press("enter", "ctrl+s")
        await until_shown(pilot, "Change 1 setting")
        await pilot.press("y")
        await until(pilot, lambda: len(app._notifications) > 1)
        assert isinstance(app.screen, TweakScreen)

    on_tweak(run, act)


def test_read_only_applies_nothing(run: MadeRun) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await pilot.press("enter", "3", "enter", "ctrl+s", "ctrl+r")
        await pilot.pause(0.2)
        assert isinstance(app.screen, TweakScreen)
        assert "Apply" not in screen_text(app)

    with Answering(run) as supervisor:
        on_tweak(run, act, read_only=True)
    assert supervisor.requests == []


# --- a real supervisor ----------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    root = tmp_path / "runs"
    root.mkdir()
    made = FakeRun(root / "a-run", num_rounds=2)
    monkeypatch.setenv(MARK, str(made.dir.path))
    monkeypatch.setattr(start, "_guarded_supervisor", fake_supervisor)
    yield made
    wait_for(lambda: lock_holder(made.dir) is None)
    wait_for(lambda: made.processes() == [])
    wait_for_guardians()
    made.check()


def test_a_failed_real_run_is_changed_and_goes_on(real: FakeRun) -> None:
    real.behave(r1_train_1="run out of memory")
    real.supervise()

    async def do() -> None:
        root = real.dir.path.parent
        async with opened(lambda: RunScreen(real.dir), root=root) as (app, pilot):
            app.push_screen(TweakScreen(real.dir))
            await until_shown(pilot, "a-run is failed", "changes hold from round 1 on")
            await until(pilot, lambda: rows(app).shown)
            await go_to(pilot, "train.microbatch_tokens")
            await type_over(pilot, "64")
            await pilot.press("enter", "ctrl+r")
            await until_shown(pilot, "then the run goes on?")
            await pilot.press("y")
            await until(pilot, lambda: real.state.status == "completed")

    drive(do())

    (event,) = [event for event in real.events if isinstance(event, SettingsChanged)]
    assert event.from_round == 1
    assert (1, "train", 2) in real.attempts
    assert real.state.rounds[0].settings["train"]["microbatch_tokens"] == 64

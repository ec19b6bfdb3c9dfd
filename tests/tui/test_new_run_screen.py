"""The new-run screen: what one can begin with, the form, findings, plan, and a real start."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.load import load_settings, parse_settings
from halos_backend.config.presets import preset_names
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from textual.pilot import Pilot
from textual.widgets import Input

from halos_tui.new_run import starts
from halos_tui.new_run.draft import Draft
from halos_tui.new_run.offer_list import OfferList
from halos_tui.new_run.screen import NewRunScreen
from halos_tui.run.screen import RunScreen
from halos_tui.settings.editor import SettingsEditor
from tests.support.answering import wait_for_guardians
from tests.support.app_fixtures import OneScreenApp, drive, opened, screen_text, until, until_shown
from tests.support.forks import forking_python
from tests.support.made_run import MadeRun
from tests.support.place import Place, make_place, make_policy

SIZES = [(80, 24), (200, 60)]
Act = Callable[[OneScreenApp, Pilot[int]], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "policy"
    make_policy(path)
    return path


@pytest.fixture
def place(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """What the app starts begins with its libraries imported."""
    monkeypatch.setattr(sys, "executable", forking_python())
    return make_place(policy, tmp_path, python=sys.executable)


@pytest.fixture
def plain_place(policy: Path, tmp_path: Path) -> Place:
    """What the app starts takes its time to begin, as anybody's."""
    return make_place(policy, tmp_path)


def on_new_run(
    root: Path,
    act: Act,
    *,
    start_from: RunDir | None = None,
    size: tuple[int, int] = (80, 24),
    **options: bool,
) -> None:
    async def do() -> None:
        def first() -> NewRunScreen:
            return NewRunScreen(start_from=start_from)

        async with opened(first, root=root, size=size, **options) as (app, pilot):
            await act(app, pilot)

    drive(do())


def notices(app: OneScreenApp) -> str:
    return "\n".join(notice.message for notice in app._notifications)


def editor(app: OneScreenApp) -> SettingsEditor:
    return app.screen.query_one(SettingsEditor)


async def take(pilot: Pilot[int], offer: str) -> None:
    """Find something to begin with, and begin with it."""
    await until(pilot, lambda: pilot.app.screen.query_one(OfferList).shown)
    await pilot.press("slash", *offer, "enter")
    offers = pilot.app.screen.query_one(OfferList)
    await until(pilot, lambda: offers.has_focus and offers.num_rows == 1)
    await pilot.press("enter")


async def take_file(pilot: Pilot[int], path: Path) -> None:
    await take(pilot, "run file")
    await until_shown(pilot, "Which run file?")
    pilot.app.screen.query_one(Input).value = str(path)
    await pilot.press("enter")


async def set_value(pilot: Pilot[int], path: str, text: str) -> None:
    """Type another value of a setting."""
    form = pilot.app.screen.query_one(SettingsEditor)
    form.rows.go_to(path)
    await pilot.press("enter")
    field = form.query_one("#value", Input)
    await until(pilot, lambda: field.has_focus)
    field.value = ""
    await pilot.press(*text, "enter")
    await until(pilot, lambda: not form.is_editing)


# --- what to begin with ---------------------------------------------------------------------


def test_all_that_one_can_begin_with(tmp_path: Path) -> None:
    MadeRun(tmp_path, "old")

    offers = {offer.label: offer for offer in starts.offers(tmp_path)}

    assert {f"preset {name}" for name in preset_names()} <= set(offers)
    assert {"demo dpo", "run old", "init kto", "init bradley_terry"} <= set(offers)
    assert "Rafailov" in offers["init dpo"].about
    assert all(offer.about for offer in offers.values())


@pytest.mark.parametrize("loss", ["dpo", "kto", "grpo", "csft", "bradley_terry"])
def test_a_template_lacks_only_what_is_the_person_s(loss: str) -> None:
    offer = next(o for o in starts.offers(Path("/nowhere")) if o.label == f"init {loss}")

    view = offer.load(lambda _phase, _done, _total: None).form().view()

    assert set(view.problems) == {"policy.path", "prompts.path", "label.judge.path"}


def test_every_preset_is_a_form_without_unknown_problems() -> None:
    for offer in starts.offers(Path("/nowhere")):
        if offer.label.startswith("preset"):
            view = offer.load(lambda _phase, _done, _total: None).form().view()
            assert set(view.problems) <= {"policy.path", "prompts.path", "label.judge.path"}


def test_the_run_file_that_comes_of_it_says_the_same(place: Place, tmp_path: Path) -> None:
    start = starts.start_from_file(place.config())
    settings = start.settings(["train.lr=1e-3", "sample.stop=['a']"])

    text = start.config_text(settings, ["train.lr=1e-3"])

    written = tmp_path / "written.toml"
    written.write_text(text)
    assert load_settings(written) == settings
    assert "# changed: 'train.lr=1e-3'" in text


def test_a_run_s_settings_are_those_of_its_next_round(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=7, num_prompts=14)

    start = starts.start_from_run(run.dir)

    settings = parse_settings(start.table, source="run")
    assert settings.loop.num_rounds == 7
    assert settings.launch.num_threads is None, "those of the machine where it starts"


def test_the_offers_are_filtered_by_typing_and_the_form_begins_with_what_is_missing(
    tmp_path: Path,
) -> None:
    """The first letter moves in other lists."""

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: app.screen.query_one(OfferList).shown)
        for key in (*"kto init", "enter", "enter"):
            app.simulate_key(key)
        await until_shown(pilot, "New run, from init kto", "still as halos-tui init wrote it")
        _, _, listed = screen_text(app).partition("often changed")
        first = [line.split()[0] for line in listed.splitlines()[1:3]]
        assert first == ["train.lr", "train.loss.beta"]
        await until(pilot, lambda: (row := editor(app).rows.row) and row.path == "policy.path")
        assert editor(app).rows.row.is_often  # type: ignore[union-attr]

    on_new_run(tmp_path, act)


@pytest.mark.parametrize("size", [*SIZES, (40, 10)])
def test_the_screen_offers_them_and_escape_goes_back(tmp_path: Path, size: tuple[int, int]) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "A new run begins with ...", "run file", "demo dpo")
        await pilot.press("end", "up", "pageup", "pagedown", "home")
        await take(pilot, "init kto")
        await until_shown(pilot, "New run, from init kto")
        await until(pilot, lambda: editor(app).view)
        await pilot.press("escape")
        await until_shown(pilot, "A new run begins with ...")

    on_new_run(tmp_path, act, size=size)


def test_another_run_as_a_start_needs_no_choice(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, num_rounds=7, num_prompts=14)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "New run, from the run a-run")
        await until(pilot, lambda: editor(app).view)
        rows = {row.path: row.value for row in editor(app).view.rows}  # type: ignore[union-attr]
        assert rows["loop.num_rounds"] == "7"
        assert rows["policy.path"] == "/models/policy"

    on_new_run(tmp_path, act, start_from=run.dir)


def test_a_file_that_is_none_is_said_and_another_can_be_chosen(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[policy\n")

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, tmp_path / "none.toml")
        await until(pilot, lambda: "no run file" in notices(app))
        await pilot.press("escape")
        await take_file(pilot, bad)
        await until(pilot, lambda: "not TOML" in notices(app))
        await until_shown(pilot, "A new run begins with ...")

    on_new_run(tmp_path, act)


def test_a_run_that_cannot_be_read_is_no_start(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.dir.events.write_bytes(b'{"type": "what"}\n{"t": 1}\n')

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: notices(app))
        await until_shown(pilot, "A new run begins with ...")

    on_new_run(tmp_path, act, start_from=run.dir)


# --- the form -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_problems_then_the_doctor_s_findings(
    place: Place, tmp_path: Path, size: tuple[int, int]
) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config())
        await until_shown(pilot, "New run, from")
        await set_value(pilot, "train.lr", "fast")
        await until_shown(pilot, "! train.lr: takes a number above 0, not 'fast'")
        await pilot.press("P")
        await until_shown(pilot, "1 problem to mend first")
        await pilot.press("ctrl+s")
        await set_value(pilot, "train.lr", "1e-3")
        await until(pilot, lambda: "takes a number above 0, not" not in screen_text(app))
        assert "one step sees" in screen_text(app)
        assert not place.runs.exists()

    on_new_run(place.runs, act, size=size)


def test_a_name_is_asked_for_and_judged(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await until_shown(pilot, "New run, from the run a-run")
        await pilot.press("N")
        await until_shown(pilot, "The run's name")
        await pilot.press(*"a/b")
        await until_shown(pilot, "a name has no /")
        await pilot.press("backspace", "backspace", "enter")
        await until_shown(pilot, "New run a, from the run a-run")

    on_new_run(tmp_path, act, start_from=run.dir)


def test_y_copies_the_run_file(place: Place) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config())
        await until(pilot, lambda: editor(app).view)
        await pilot.press("y")
        await until(pilot, lambda: "[policy]" in app.clipboard)

    on_new_run(place.runs, act)


def test_beginning_anew_asks_before_edits_are_lost(tmp_path: Path) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take(pilot, "init kto")
        await until(pilot, lambda: editor(app).view)
        await set_value(pilot, "train.lr", "1e-3")
        await pilot.press("O")
        await until_shown(pilot, "Leave, and forget 1 change?")
        await pilot.press("y")
        await until_shown(pilot, "A new run begins with ...")

    on_new_run(tmp_path, act)


def test_read_only_starts_nothing(place: Place) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config())
        await until(pilot, lambda: editor(app).view)
        await pilot.press("ctrl+s")
        await pilot.pause(0.2)
        assert "Start" not in screen_text(app).splitlines()[-1]
        assert not place.runs.exists()

    on_new_run(place.runs, act, read_only=True)


# --- for real -------------------------------------------------------------------------------


def test_the_plan_is_shown_and_leaves_nothing(place: Place) -> None:
    config = place.config(loop__num_rounds=None)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, config)
        await until(pilot, lambda: editor(app).view)
        await pilot.press("P")
        await until_shown(pilot, "The plan", "4 rounds of dpo, 20 prompts")
        shown = " ".join(screen_text(app).split())
        assert "rounds 1 to 3, each: 6 prompts, 24 completions, at most 6 pairs, 3 steps" in shown
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        assert not place.runs.exists()

    on_new_run(place.runs, act, size=(200, 60))


def test_a_plan_of_settings_that_were_changed_meanwhile_is_not_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_plan, is_planning = threading.Event(), threading.Event()

    def held(draft: Draft, report: Any, warn: Any) -> list[str]:
        del draft, report, warn
        is_planning.set()
        may_plan.wait(60)
        return ["4 rounds of dpo"]

    monkeypatch.setattr("halos_tui.new_run.screen.plan_of", held)

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config())
        await until(pilot, lambda: editor(app).view)
        await pilot.press("P")
        await until(pilot, is_planning.is_set)
        await set_value(pilot, "loop.num_rounds", "7")
        may_plan.set()
        await until_shown(pilot, "changed while the plan was made: ask for it again")
        assert isinstance(app.screen, NewRunScreen)

    on_new_run(place.runs, act)


@pytest.mark.parametrize("key", ["P", "ctrl+s"])
def test_what_is_wrong_with_inputs_stands_beside_the_setting_and_nothing_is_left(
    place: Place, key: str
) -> None:
    config = place.config(prompts__prompt="question")

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, config)
        await until(pilot, lambda: editor(app).view)
        await pilot.press(key)
        await until(pilot, lambda: (row := editor(app).rows.row) and row.path == "prompts.prompt")
        shown = await until_shown(pilot, "! problem: prompts: ")
        (row,) = [line for line in shown.splitlines() if line.startswith("! prompt ")]
        assert "problem: prompts: " in row
        await until(pilot, lambda: not app.screen._is_busy)  # type: ignore[attr-defined]
        assert isinstance(app.screen, NewRunScreen)
        assert not place.runs.exists() or list(place.runs.iterdir()) == []
        await set_value(pilot, "prompts.prompt", "prompt")
        await until(pilot, lambda: "problem: prompts: " not in screen_text(app))

    on_new_run(place.runs, act)


def test_the_doctor_s_warnings_stand_beside_the_settings_that_they_name(place: Place) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config(train__batch_size=64))
        shown = await until_shown(pilot, "New run, from", "warning: batch: one step sees 64 pairs")
        marked = [line.split()[1] for line in shown.splitlines() if line.startswith("! ")]
        assert marked == ["loop.prompts_per_round"]
        await pilot.press("down", "down", "down")
        await until_shown(pilot, "! warning: batch: one step sees 64 pairs", "raise loop.prompts_")
        await set_value(pilot, "train.batch_size", "2")
        await until(pilot, lambda: "warning: batch" not in screen_text(app))

    on_new_run(place.runs, act)


def test_what_differs_from_the_preset_is_marked(tmp_path: Path) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take(pilot, "preset llama-dpo")
        await until(pilot, lambda: editor(app).view)
        await set_value(pilot, "train.loss.beta", "0.25")
        shown = await until_shown(pilot, "New run, from preset llama-dpo; 1 setting changed")
        (row,) = [line for line in shown.splitlines() if line.startswith("* ")]
        assert "instead of" in row
        before = row.partition("instead of ")[2].strip()
        await until_shown(pilot, f"instead of {before}: backspace takes that back")
        await pilot.press("backspace")
        await until(pilot, lambda: "changed" not in screen_text(app).splitlines()[0])

    on_new_run(tmp_path, act)


def test_a_name_that_is_taken_is_said(place: Place) -> None:
    run = MadeRun(place.runs, "taken")

    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config())
        await until(pilot, lambda: editor(app).view)
        await pilot.press("N")
        await until_shown(pilot, "The run's name")
        await pilot.press(*"taken", "enter")
        await until_shown(pilot, "New run taken, from")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "a run named 'taken' exists")
        assert [path.name for path in place.runs.iterdir()] == [run.dir.name]

    on_new_run(place.runs, act, size=(200, 60))


def test_leaving_while_the_run_is_made_takes_it_back(plain_place: Place) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, plain_place.config())
        await until(pilot, lambda: editor(app).view)
        await pilot.press("ctrl+s")
        await until_shown(pilot, "checking the inputs")
        await app.action_quit()

    on_new_run(plain_place.runs, act)

    left = list(plain_place.runs.iterdir()) if plain_place.runs.exists() else []
    for path in left:  # it was too fast for us: then it is a whole run, which goes on
        assert not path.name.startswith(".")
        assert plain_place.halos("watch", path.name).code == 0
    wait_for_guardians()


def test_a_real_run_is_started_and_shown(place: Place) -> None:
    async def act(app: OneScreenApp, pilot: Pilot[int]) -> None:
        await take_file(pilot, place.config())
        await until(pilot, lambda: editor(app).view)
        await set_value(pilot, "loop.num_rounds", "1")
        await pilot.press("N")
        await until_shown(pilot, "The run's name")
        await pilot.press(*"fresh", "enter")
        await until_shown(pilot, "New run fresh, from")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await until_shown(pilot, "fresh")

    on_new_run(place.runs, act)

    assert place.halos("watch", "fresh").code == 0
    wait_for_guardians()
    made = RunDir(place.runs / "fresh")
    state = load_state(made)
    assert (state.status, len(state.rounds)) == ("completed", 1)
    assert "loop.num_rounds=1" in made.config.read_text()
    assert json.loads(made.resolved_config.read_text())["loop"]["num_rounds"] == 1

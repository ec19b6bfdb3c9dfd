"""The list of runs: what it shows, and what its keys do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from halos_backend.events import RunFailed, RunPaused
from halos_backend.store.own_words import OwnWords, read_own_words, write_own_words
from textual.geometry import Region
from textual.widgets import Input

from halos_tui.actions import Action, actions_of
from halos_tui.run.screen import RunScreen
from halos_tui.runs.run_list import RunList
from halos_tui.runs.screen import RunsScreen
from halos_tui.screens.help import HelpScreen
from tests.support.app_fixtures import (
    drive,
    opened,
    screen_text,
    until,
    until_shown,
    until_told,
)
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.shell_fixtures import at_cursor, listed, shell, shown_names

OPENING = [
    action
    for action in actions_of("runs")
    if action.id in ("completions", "logs", "changes", "metrics", "tweak", "new_run")
]
HOSTILE = "bad\x1b]52;c;aGk=\x07[red]\u202e"


def three_runs(root: Path) -> tuple[MadeRun, MadeRun, MadeRun]:
    """One is at work, two need a person; those started at the same time, so that they stand in the
    order of their names.
    """
    alpha = MadeRun(root, "alpha")
    alpha.whole_round(1, reward_mean=0.25)
    alpha.say(RunPaused(t=STARTED_T + 50, reason="its owner paused it"))
    beta = MadeRun(root, "beta", loss="kto", feedback="binary", num_rounds=9, num_prompts=18)
    beta.supervised()
    beta.whole_round(1, reward_mean=0.5)
    beta.start_round(2)
    beta.start_stage(2, "sample")
    gamma = MadeRun(root, "gamma")
    gamma.say(RunFailed(t=STARTED_T + 60, reason="no memory left"))
    return alpha, beta, gamma


def test_an_empty_root_says_how_to_start(tmp_path: Path) -> None:
    async def look() -> None:
        async with shell(tmp_path / "none") as (_, pilot):
            shown = await until_shown(pilot, "No runs in", "0 runs")
            assert "n sets up a new one; halos-tui demo starts a small one" in shown
        async with shell(tmp_path / "none", read_only=True) as (_, pilot):
            shown = await until_shown(pilot, "No runs in")
            assert "n sets up" not in shown

    drive(look())


def test_every_run_has_a_line(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=(100, 24)) as (_, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            lines = {
                line.split()[0]: line.split()
                for line in screen_text(pilot.app).splitlines()[2:]
                if line.split()
            }
            assert lines["alpha"][1:6] == ["▪", "paused", "1/2", "-", "dpo"]
            assert lines["beta"][1:8] == ["▸", "running", "2/9", "sample", "kto", "0.50", "-"]
            assert lines["gamma"][1:4] == ["✗", "failed", "0/2"]
            await pilot.press("end")
            await until_shown(pilot, "no memory left")

    drive(look())


def test_runs_are_grouped_by_what_they_need_until_another_column_sorts_them(
    tmp_path: Path,
) -> None:
    three_runs(tmp_path)
    MadeRun(tmp_path, "delta").complete()

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            runs = await listed(pilot, "at work  1", "needs you  2", "done  1")
            lines = [line.split()[0] for line in screen_text(app).splitlines()[2:9]]
            assert lines == ["at", "beta", "needs", "alpha", "gamma", "done", "delta"]
            seen = [at_cursor(runs)]
            for key in ("down", "down", "down", "down", "up", "up", "home", "end", "pageup"):
                await pilot.press(key)
                seen.append(at_cursor(runs))
            down, up = ["beta", "alpha", "gamma", "delta", "delta"], ["gamma", "alpha"]
            assert seen == [*down, *up, "beta", "delta", "beta"]
            await pilot.press("s")
            await until_shown(pilot, "by name")
            assert "needs you" not in screen_text(app)
            await pilot.press("S", *"ssssss")
            await until_shown(pilot, "by started, reversed", "at work  1")
            assert shown_names(runs) == ["beta", "alpha", "gamma", "delta"]

    drive(look())


def test_runs_of_one_group_have_no_heading(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            runs = await listed(pilot, "at work  1")
            await pilot.press("slash", *"-beta", "enter")
            await until(pilot, lambda: shown_names(runs) == ["alpha", "gamma"])
            assert "needs you" not in screen_text(app)

    drive(look())


def test_the_list_is_live_and_cursor_and_selection_stay(tmp_path: Path) -> None:
    _, beta, _ = three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("down", "space", "up")
            assert at_cursor(runs) == "alpha"
            beta.finish_stage(2, "sample")
            beta.start_stage(2, "label")
            MadeRun(tmp_path, "delta")
            await until_shown(pilot, "label", "delta", "1 selected")
            assert at_cursor(runs) == "alpha"
            assert pilot.app.screen.selected_runs()[0].name == "alpha"

    drive(look())


def test_a_change_repaints_its_own_cells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, beta, _ = three_runs(tmp_path)
    painted: list[Region] = []
    refresh = RunList.refresh

    def noted(self: RunList, *regions: Region, **options: bool) -> RunList:
        painted.extend(regions)
        return refresh(self, *regions, **options)

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            line = [*map(runs.key, runs.listed)].index("beta") + 1
            monkeypatch.setattr(RunList, "refresh", noted)
            beta.finish_stage(2, "sample")
            beta.start_stage(2, "label")
            await until_shown(pilot, "label")
            # one event or both at a time
            assert {region.y for region in painted} == {line}
            assert max(region.width for region in painted) <= len("sample")

    drive(look())


def test_a_run_that_is_deleted_leaves_the_list(tmp_path: Path) -> None:
    alpha, _, _ = three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("ctrl+a", "home")
            shutil.rmtree(alpha.dir.path)
            await until_shown(pilot, "2 runs", "2 selected")
            assert at_cursor(runs) == "beta"

    drive(look())


def test_a_run_that_cannot_be_read_is_listed_and_does_not_open(tmp_path: Path) -> None:
    MadeRun(tmp_path, "fine")
    MadeRun(tmp_path, "broken").dir.events.write_bytes(b"rubbish\n")

    async def look() -> None:
        async with shell(tmp_path, size=(140, 24)) as (app, pilot):
            runs = await listed(pilot, "fine", "unreadable", "events.jsonl, line 1")
            runs.move_to(shown_names(runs).index("broken"))
            await pilot.press("enter")
            await until(pilot, lambda: list(app._notifications))
            assert isinstance(app.screen, RunsScreen)

    drive(look())


def test_title_note_and_tags_are_written_shown_and_filtered(tmp_path: Path) -> None:
    alpha, _, _ = three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=(100, 24)) as (_, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("down", "N")
            await until_shown(pilot, "Your words about alpha")
            await pilot.press(*"lower", "tab", *"collapses", "tab", *"a:b", "enter")
            await until_shown(pilot, "'a:b' is no tag")
            await pilot.press("backspace", "backspace", "enter")
            await until_shown(pilot, "alpha  lower", "its owner paused it  a  collapses")
            assert read_own_words(alpha.dir) == OwnWords(
                title="lower", note="collapses", tags=("a",)
            )
            await pilot.press("slash", *"tag:a lower", "enter")
            await until(pilot, lambda: shown_names(runs) == ["alpha"])

    drive(look())


def test_several_runs_are_tagged_at_once(tmp_path: Path) -> None:
    made = three_runs(tmp_path)
    for run in made:
        write_own_words(run.dir, OwnWords(note="kept", tags=("old", "x")))

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("space", "space", "N")
            await until_shown(pilot, "Tag 2 runs")
            await pilot.press(*"new -old", "enter")
            await until(pilot, lambda: read_own_words(made[1].dir).tags == ("x", "new"))

    drive(look())
    told = OwnWords(note="kept", tags=("x", "new"))
    assert [read_own_words(run.dir) for run in made[:2]] == [told, told]
    assert read_own_words(made[2].dir).tags == ("old", "x")


def test_words_that_are_damaged_are_told_and_replaced(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, "alpha")
    run.dir.own_words.write_text("rubbish")

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            await listed(pilot, "alpha", "own_words.json: JSON is malformed")
            await pilot.press("N")
            await until_shown(pilot, "What is there is lost: own_words.json")
            await pilot.press("t", "enter")
            await listed(pilot, "alpha  t")
        async with shell(tmp_path, read_only=True) as (app, pilot):
            await listed(pilot, "alpha  t")
            await pilot.press("N")
            assert isinstance(app.screen, RunsScreen)

    drive(look())


def fork_of(origin: MadeRun, name: str) -> MadeRun:
    """A run whose first event says where it began."""
    made = MadeRun(origin.dir.path.parent, name)
    first, *others = made.dir.events.read_bytes().splitlines(keepends=True)
    created = {
        **json.loads(first),
        "forked_from": {"run": "x", "path": str(origin.dir.path), "round": 1},
    }
    made.dir.events.write_bytes(json.dumps(created).encode() + b"\n" + b"".join(others))
    return made


def test_a_run_is_deleted_once_a_person_has_seen_what_is_lost(tmp_path: Path) -> None:
    alpha, _, _ = three_runs(tmp_path)
    fork_of(alpha, "the-fork").complete()

    async def look() -> None:
        async with shell(tmp_path, size=(100, 30)) as (_, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma", "the-fork")
            await pilot.press("down", "d")
            await until_shown(
                pilot,
                "Delete alpha for good?",
                "This is lost: paused, 1 round, 1 checkpoint;",
                "the-fork began from it, with a copy of its checkpoint",
            )
            await pilot.press("d", "enter")
            assert alpha.dir.path.is_dir()
            await pilot.press("d")
            await until_shown(pilot, "Delete alpha for good?")
            await pilot.press("x")
            await until_told(pilot, "alpha: deleted; ")
            await until(pilot, lambda: "alpha" not in shown_names(runs))
            assert not alpha.dir.path.exists()

    drive(look())


def test_only_runs_at_rest_are_deleted(tmp_path: Path) -> None:
    _, beta, gamma = three_runs(tmp_path)
    lost = MadeRun(tmp_path, "lost")
    lost.start_round(1)

    async def look() -> None:
        async with shell(tmp_path, size=(100, 30)) as (app, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("d")
            await until_told(pilot, "the run beta is supervised by process")
            await pilot.press("ctrl+a", "d")
            await until_shown(pilot, "Delete 2 runs for good?", "lost: left alone, its supervisor")
            await pilot.press("x")
            await until_told(pilot, "2 of 2 runs did as asked")
            assert beta.dir.path.is_dir() and lost.dir.path.is_dir()
            assert not gamma.dir.path.exists()
        async with shell(tmp_path, read_only=True) as (app, pilot):
            await listed(pilot, "beta")
            await pilot.press("end", "d", "delete")
            assert isinstance(app.screen, RunsScreen)

    drive(look())


def test_a_root_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: object) -> None:
        raise PermissionError(13, "Permission denied", str(root))

    monkeypatch.setattr("halos_tui.runs.reader.os.listdir", refuse)

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            await until_shown(pilot, "Permission denied")

    drive(look())


def test_enter_opens_the_run_and_escape_comes_back(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, RunScreen))
            await until_shown(pilot, "beta", "round 2 of 9")
            await pilot.press("escape")
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("escape", "escape")
            assert isinstance(app.screen, RunsScreen)

    drive(look())


def test_the_app_opens_on_a_run_with_the_list_behind_it(tmp_path: Path) -> None:
    alpha, _, _ = three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, run=alpha.dir) as (app, pilot):
            await until_shown(pilot, "alpha", "paused")
            assert isinstance(app.screen, RunScreen)
            await pilot.press("escape")
            await listed(pilot, "beta")

    drive(look())


def test_the_filter_filters_as_one_types(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("slash", *"loss:kto")
            await until_shown(pilot, "1 run of 3")
            assert shown_names(runs) == ["beta"]
            await pilot.press("enter")
            assert app.focused is runs
            assert "loss:kto" in screen_text(app)
            await pilot.press("escape")
            await until_shown(pilot, "3 runs")
            assert "loss:kto" not in screen_text(app)

    drive(look())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("foo:1", "no field 'foo'; try name, title, tag, note, status, loss, stage,"),
        ("round>x", "'x' is no number"),
        ("nosuch", "No run fits the filter."),
        ("train.lrr>1", "No run has a setting train.lrr."),
    ],
)
def test_a_filter_that_makes_no_sense_says_so(tmp_path: Path, typed: str, said: str) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("slash")
            app.screen.query_one("#filter", Input).value = typed
            await until_shown(pilot, said)
            await pilot.press("escape")
            await until_shown(pilot, "3 runs", "alpha")

    drive(look())


def test_settings_are_filtered_by_value(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("slash")
            field = app.screen.query_one("#filter", Input)
            field.value = "loop.num_rounds>=3"
            await until(pilot, lambda: shown_names(runs) == ["beta"])
            field.value = "loop.num_rounds<3 -name:alpha"
            await until(pilot, lambda: shown_names(runs) == ["gamma"])

    drive(look())


def test_s_goes_through_the_columns_and_shift_s_turns_them_round(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press("down")
            before = at_cursor(runs)
            await pilot.press("s")
            await until_shown(pilot, "by name", "name▾")
            assert shown_names(runs) == ["alpha", "beta", "gamma"]
            await pilot.press("S")
            await until_shown(pilot, "by name, reversed", "name▴")
            assert shown_names(runs) == ["gamma", "beta", "alpha"]
            assert at_cursor(runs) == before
            await pilot.press("s", "s", "s", "s")
            await until_shown(pilot, "by reward")
            assert shown_names(runs) == ["alpha", "beta", "gamma"]

    drive(look())


def test_several_runs_are_selected_at_once(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            screen = app.screen
            assert isinstance(screen, RunsScreen)
            assert [run.name for run in screen.selected_runs()] == ["beta"]
            await pilot.press("space", "space")
            assert {run.name for run in screen.selected_runs()} == {"alpha", "beta"}
            await until_shown(pilot, "2 selected")
            await pilot.press("ctrl+a")
            await until_shown(pilot, "3 selected")
            await pilot.press("ctrl+a")
            assert len(screen.selected_runs()) == 1
            await pilot.press("ctrl+a", "escape")
            assert len(screen.selected_runs()) == 1

    drive(look())


def test_what_the_filter_hides_is_not_acted_upon(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            screen = app.screen
            assert isinstance(screen, RunsScreen)
            await pilot.press("ctrl+a", "slash", *"beta")
            await until(pilot, lambda: shown_names(runs) == ["beta"])
            assert [run.name for run in screen.selected_runs()] == ["beta"]
            await pilot.press(*"xx")
            await until_shown(pilot, "No run fits")
            assert screen.selected_runs() == []

    drive(look())


@pytest.mark.parametrize("action", OPENING, ids=lambda action: action.id)
def test_keys_open_the_screens_of_the_run_at_the_cursor(tmp_path: Path, action: Action) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with opened(RunsScreen, root=tmp_path) as (app, pilot):
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.press(action.keys)
            await until(pilot, lambda: app.opened)
            name, about, more = app.opened[0]
            assert name == action.id
            assert name == "new_run" or "beta" in f"{about} {more}"

    drive(look())


def test_keys_with_no_run_do_nothing(tmp_path: Path) -> None:
    async def look() -> None:
        async with opened(RunsScreen, root=tmp_path) as (app, pilot):
            await until_shown(pilot, "No runs in")
            keys = ("enter", "space", "ctrl+a", "s", "S", "c", "l", "h", "m", "t", "p", "a", "r")
            await pilot.press(*keys, "f", "e", "up", "down", "pageup", "pagedown", "home", "end")
            assert app.opened == []
            assert isinstance(app.screen, RunsScreen)

    drive(look())


def test_the_cursor_moves_through_more_runs_than_fit(tmp_path: Path) -> None:
    for number in range(60):
        MadeRun(tmp_path, f"run-{number:02d}")

    async def look() -> None:
        async with shell(tmp_path) as (_, pilot):
            await until_shown(pilot, "60 runs")
            await pilot.press("s", "home")
            runs = await listed(pilot, "run-00")
            await pilot.press("end")
            await until_shown(pilot, "run-59")
            await pilot.press("pageup")
            # 24 lines less title, header, line about the run and two of keys
            assert at_cursor(runs) == f"run-{59 - 18}"
            await pilot.press("home", "down", "j", "k")
            assert at_cursor(runs) == "run-01"
            await pilot.press("pagedown", "up")
            assert at_cursor(runs) == "run-18"

    drive(look())


def test_the_mouse_sorts_selects_and_opens(tmp_path: Path) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path) as (app, pilot):
            runs = await listed(pilot, "alpha", "beta", "gamma")
            await pilot.click("#runs", offset=(3, 0))
            await until_shown(pilot, "by name")
            await pilot.click("#runs", offset=(3, 0))
            await until_shown(pilot, "by name, reversed")
            await pilot.click("#runs", offset=(3, 3))
            assert at_cursor(runs) == "alpha"
            await pilot.click("#runs", offset=(3, 15))
            assert at_cursor(runs) == "alpha"
            await pilot.click("#runs", offset=(3, 2), times=2)
            await until(pilot, lambda: isinstance(app.screen, RunScreen))
            await until_shown(pilot, "beta")

    drive(look())


def test_a_hostile_name_is_shown_as_escapes(tmp_path: Path) -> None:
    MadeRun(tmp_path, HOSTILE)

    async def look() -> None:
        async with shell(tmp_path, size=(160, 24)) as (app, pilot):
            await listed(pilot, "bad\\x1b]52;c;aGk=\\x07[red]\\u202e")
            text = screen_text(app)
            assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text

    drive(look())


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (3, 40), (300, 4), (200, 60)])
def test_every_size_is_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    three_runs(tmp_path)

    async def look() -> None:
        async with shell(tmp_path, size=size) as (app, pilot):
            screen = app.screen
            assert isinstance(screen, RunsScreen)
            await until(pilot, lambda: len(shown_names(screen.query_one(RunList))) == 3)
            await pilot.press("down", "space", "s", "slash", "x", "escape", "question_mark")
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            await pilot.press("escape")
            await listed(pilot, "alpha", "beta", "gamma")
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert isinstance(app.screen, RunsScreen)

    drive(look())

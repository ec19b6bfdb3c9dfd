"""Paths are completed with tab, as a shell does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Input

from halos_tui.new_run.screen import NewRunScreen
from halos_tui.widgets.completing_input import (
    NOTHING,
    CompletingInput,
    functions_like,
    listing,
    paths_like,
)
from tests.support.app_fixtures import OneScreenApp, drive, opened, screen_text, until, until_shown
from tests.tui.test_new_run_screen import editor, take

JUDGE = """
import math
def reward(completion): ...
async def reward_slowly(completion): ...
def _inner(): ...
class Judge:
    def method(self): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("prompts one.jsonl", "prompts two.jsonl", "policy/config.json", ".cache/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "judge.py").write_text(JUDGE)
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def fits(place: Path, typed: str) -> list[str]:
    return sorted(paths_like((place,))(typed))


# --- what fits ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "fitting"),
    [
        ("", ["judge.py", "loop", "policy/", "prompts one.jsonl", "prompts two.jsonl"]),
        ("po", ["policy/"]),
        ("policy", ["policy/"]),
        ("policy/", ["policy/config.json"]),
        ("./po", ["./policy/"]),
        ("policy/../pol", ["policy/../policy/"]),
        ("prompts ", ["prompts one.jsonl", "prompts two.jsonl"]),
        (".", [".cache/"]),
        ("none", []),
        ("none/", []),
        ("judge.py/", []),
        ("loop/", []),
        ("a\0b/", []),
        ("~nobody-of-that-name/", []),
    ],
)
def test_what_begins_so_in_a_folder(folder: Path, typed: str, fitting: list[str]) -> None:
    assert fits(folder, typed) == fitting


def test_the_same_as_a_whole_path_stays_one(folder: Path) -> None:
    assert fits(Path("/nowhere"), f"{folder}/po") == [f"{folder}/policy/"]
    assert fits(folder, f"{folder.parent}/{folder.name}/ju") == [f"{folder}/judge.py"]


def test_the_home_is_written_as_it_was_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert fits(Path("/nowhere"), "~") == ["~/"]
    assert fits(Path("/nowhere"), "~/po") == ["~/policy/"]


def test_a_folder_that_nobody_may_look_into_has_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who may look everywhere."""
    may_look = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "policy":
            raise PermissionError(path)
        return may_look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert fits(folder, "policy/") == []
    assert fits(folder, "pol") == ["policy/"]


def test_paths_of_two_places_are_there_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "policy"
    (other / "policy").mkdir()
    assert sorted(paths_like((folder, other))("po")) == ["policy/"]
    assert sorted(paths_like((folder, other))("c")) == ["config.json"]


def test_names_that_cannot_be_shown_are_left_out(folder: Path) -> None:
    for name in (b"pot\x1b[31m", b"pot\xff", b"pot\n"):
        (folder / os.fsdecode(name)).touch()
    assert fits(folder, "pot") == []


@pytest.mark.parametrize(
    ("typed", "fitting"),
    [
        ("ju", ["judge.py:"]),
        ("p", ["policy/"]),
        ("judge.py:", ["judge.py:reward", "judge.py:reward_slowly"]),
        ("./judge.py:reward_", ["./judge.py:reward_slowly"]),
        ("none.py:", []),
        ("policy.py:", []),
    ],
)
def test_a_function_is_completed_behind_its_file(
    folder: Path, typed: str, fitting: list[str]
) -> None:
    (folder / "policy.py").mkdir() if typed.startswith("policy") else None
    assert sorted(functions_like((folder,))(typed)) == fitting


def test_what_has_no_room_in_a_list_is_counted() -> None:
    assert listing(["a/bb", "a/cc/", "a/dd"], 40) == "bb  cc/  dd"
    assert listing(["a/bb", "a/cc/", "a/dd"], 8) == "bb  cc/  and 1 more"
    assert listing([], 8) == NOTHING


# --- the field ------------------------------------------------------------------------------


class FieldScreen(Screen[None]):
    """A field that completes, and one behind it."""

    def compose(self) -> ComposeResult:
        yield CompletingInput(id="value")
        yield Input(id="other")


def is_typed(folder: Path, *keys: str, leave: tuple[str, str], fit: bool = True) -> None:
    """Keys that come in one read leave these texts in the two fields, and a `!` at the end."""

    async def do() -> None:
        async with opened(FieldScreen, root=Path("/nowhere")) as (app, pilot):
            field = app.screen.query_one("#value", CompletingInput)
            field.fit = paths_like((folder,)) if fit else None
            field.focus()
            await pilot.pause()
            at_once(app, *keys, "!")
            await until(pilot, lambda: any("!" in each.value for each in app.screen.query(Input)))
            assert tuple(each.value for each in app.screen.query(Input)) == leave

    drive(do())


def at_once(app: OneScreenApp, *keys: str) -> None:
    for key in keys:
        app.simulate_key(key)


def test_tab_adds_what_all_that_fits_begins_with(folder: Path) -> None:
    is_typed(folder, *"pr", "tab", leave=("prompts !", ""))
    is_typed(folder, *"pr", "tab", "t", "tab", leave=("prompts two.jsonl!", ""))


def test_a_burst_is_typed_before_and_behind_what_tab_adds(folder: Path) -> None:
    keys = [*"pox", "backspace", "tab", *"co", "tab", *".bkk", "backspace"]
    is_typed(folder, *keys, leave=("policy/config.json.bk!", ""))


def test_where_nothing_begins_so_the_text_stays(folder: Path) -> None:
    is_typed(folder, *"none", "tab", "tab", "x", leave=("nonex!", ""))


def test_tab_goes_on_from_a_field_that_completes_nothing(folder: Path) -> None:
    is_typed(folder, *"po", "tab", *"ab", fit=False, leave=("po", "ab!"))


# --- the screen -----------------------------------------------------------------------------


def test_a_path_of_a_new_run_is_completed_and_candidates_are_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    async def do() -> None:
        async with opened(NewRunScreen, root=folder / "runs") as (app, pilot):
            await take(pilot, "init kto")
            await until(pilot, lambda: editor(app).view)
            assert "tab Complete" not in screen_text(app)
            editor(app).rows.go_to("prompts.path")
            at_once(app, "enter", "ctrl+u", *"pr", "tab", "tab")
            await until_shown(pilot, "prompts one.jsonl  prompts two.jsonl", "tab Complete")
            at_once(app, "o", "tab", "enter")
            await until(pilot, lambda: not editor(app).is_editing)
            assert app.screen.form.edits == {"prompts.path": "prompts one.jsonl"}  # type: ignore[attr-defined]
            checked = editor(app).view.checked  # type: ignore[union-attr]
            assert "prompts.path" not in dict(checked.problems)

    drive(do())


def test_the_path_of_a_run_file_is_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my run.toml").write_text("[policy]\n")
    monkeypatch.chdir(folder)

    async def do() -> None:
        async with opened(NewRunScreen, root=folder / "runs") as (app, pilot):
            await take(pilot, "run file")
            await until_shown(pilot, "Which run file?", "tab completes the path, enter takes it")
            at_once(app, "q", "tab")
            await until_shown(pilot, NOTHING)
            at_once(app, "backspace", "m", "tab", "enter")
            await until_shown(pilot, "New run, from my run.toml")

    drive(do())

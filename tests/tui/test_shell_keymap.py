"""A person's own keys: which are taken, which are left out with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from halos_tui.keymap import UserConfig, is_key, load_config
from halos_tui.runs.screen import RunsScreen
from tests.support.app_fixtures import drive, until, until_shown
from tests.support.made_run import MadeRun
from tests.support.shell_fixtures import listed, shell


def config(folder: Path, text: str) -> UserConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(text)
    return load_config(folder / "config.toml")


def test_without_a_file_all_is_as_usual(tmp_path: Path) -> None:
    assert load_config(tmp_path / "config.toml") == UserConfig()


def test_keys_theme_and_mouse(tmp_path: Path) -> None:
    text = 'theme = "light"\nmouse = false\n[keys]\npause = "P"\nsearch = "ctrl+f,slash"\n'
    assert config(tmp_path, text) == UserConfig(
        {"pause": "P", "search": "ctrl+f,slash"}, "light", mouse=False
    )


def test_two_actions_may_swap_their_keys(tmp_path: Path) -> None:
    found = config(tmp_path, '[keys]\npause = "a"\nabort = "p"\n')
    assert found == UserConfig({"pause": "a", "abort": "p"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[keys]\npuase = 'P'\n", "keys.puase: no such action"),
        ("[keys]\npause = 'nokey'\n", "keys.pause = 'nokey' is no key"),
        ("[keys]\npause = ''\n", "keys.pause = '' is no key"),
        ("[keys]\npause = 3\n", "keys.pause = '3' is no key"),
        ("[keys]\npause = 'a'\n", "keys.pause = 'a' is the key of abort already"),
        ("[keys]\nhelp = 'q'\n", "keys.help = 'q' is the key of quit already"),
        ("keys = 3\n", "[keys] is a table"),
        ("theme = 3\n", "theme is the name of a theme"),
        ("mouse = 'no'\n", "mouse is true or false"),
        ("colour = 1\n", "no setting 'colour'; there are keys, theme and mouse"),
        ("[keys\n", "config.toml: "),
        ('"\\u001b[31m" = 1\n', "no setting '\\x1b[31m'"),
    ],
)
def test_what_is_wrong_is_left_out_and_told(tmp_path: Path, text: str, said: str) -> None:
    found = config(tmp_path, text)
    assert (found.keys, found.theme, found.mouse) == ({}, None, True)
    assert len(found.problems) == 1
    assert said in found.problems[0]


def test_only_what_clashes_is_left_out(tmp_path: Path) -> None:
    found = config(tmp_path, '[keys]\npause = "P"\nretry = "P"\nfork = "F"\n')
    assert len(found.problems) == 1
    assert len(found.keys) == 2
    assert found.keys["fork"] == "F"


def test_the_same_key_on_two_screens_is_no_clash(tmp_path: Path) -> None:
    assert config(tmp_path, "[keys]\nnext_curve = 'w'\nselect = 'w'\n").problems == ()


@pytest.mark.parametrize(
    "name", ["a", "A", "?", "question_mark", "ctrl+f", "f5", "shift+up", "tab"]
)
def test_keys_have_textuals_names(name: str) -> None:
    assert is_key(name)


def test_a_remapped_key_works_and_is_shown_everywhere(tmp_path: Path, config_folder: Path) -> None:
    MadeRun(tmp_path / "runs")
    config(config_folder, '[keys]\nselect = "x"\nsearch = "ctrl+f"\nhelp = "f1"\n')

    async def look() -> None:
        async with shell(tmp_path / "runs", size=(160, 30)) as (app, pilot):
            await listed(pilot, "a-run", "x Select", "^f Search", "f1 Help")
            await pilot.press("space", "slash")
            assert "selected" not in await until_shown(pilot, "1 run")
            await pilot.press("x")
            await until_shown(pilot, "1 selected")
            await pilot.press("f1")
            shown = await until_shown(pilot, "x  Select: ", "f1  Help: ")
            assert "space" not in shown
            await pilot.press("f1")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))

    drive(look())


def test_a_clash_is_told_and_the_app_goes_on(tmp_path: Path, config_folder: Path) -> None:
    MadeRun(tmp_path / "runs")
    config(config_folder, '[keys]\nselect = "s"\n')

    async def look() -> None:
        async with shell(tmp_path / "runs") as (app, pilot):
            await until(
                pilot, lambda: any("key of sort already" in n.message for n in app._notifications)
            )
            await until_shown(pilot, "a-run")
            await pilot.press("space")
            await until_shown(pilot, "1 selected")
            await pilot.press("s")
            await until_shown(pilot, "by name")

    drive(look())

"""The app names keys where the command line names commands, in every message of the program.

All texts of the program are looked at, whatever leads to them: a command in them is one that the
app can word as a key, or one of a few that no key does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import halos_backend
import pytest
from halos_backend.events import RunFailed

import halos_tui
from halos_tui.actions import ACTIONS
from halos_tui.commands import COMMAND_LINE, VERBS
from halos_tui.keymap import DONE_BY, in_keys
from halos_tui.runs.screen import RunsScreen
from tests.support.app_fixtures import drive, opened, run_screen, until_shown, until_told
from tests.support.made_run import STARTED_T, MadeRun
from tests.support.shell_fixtures import shell

APP, BACKEND = (Path(package.__path__[0]) for package in (halos_tui, halos_backend))
COMMAND_LINE_FOLDERS = {"cli", "headless"}
FOR_THE_SHELL = {"presets.py", "create.py", "tweaking.py"}
"""These write run files, whose comments are for the command line, and a command to copy."""
NO_KEY = {"init", "list", "demo"}
KEY = re.compile(r"\b(ctrl\+\w|escape\b|esc\b|press(es|ed)?\b|the key \w\b)", re.I)


def texts(path: Path) -> Iterator[str]:
    """Every text in a file but docstrings, with commands in place of the calls that make them."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(text_of, node.values))
        elif isinstance(node, ast.Call) and id(node) not in inner:
            yield text_of(node)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docs | inner
        ):
            yield node.value


def text_of(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.FormattedValue(value=value):
            return text_of(value)
        case ast.Call(func=ast.Name(id="command_for"), args=[_, *rest]):
            return as_command(rest)
        case ast.Call(func=ast.Name(id="command"), args=rest):
            return as_command(rest)
        case ast.Call():
            return ""
    return "X"


def as_command(arguments: list[ast.expr]) -> str:
    verb, *rest = map(text_of, arguments)
    return " ".join(["halos-tui", verb, "a-run", *rest, "--runs-dir", "/elsewhere"])


def messages(root: Path, *, of_app: bool) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*.py")):
        is_of_app = not COMMAND_LINE_FOLDERS & {*path.relative_to(root).parts}
        if is_of_app == of_app and path.name not in {*FOR_THE_SHELL, "commands.py"}:
            yield from ((path.name, text) for text in texts(path))


SAID = [*messages(BACKEND, of_app=True), *messages(APP, of_app=True)]
COMMANDS = [(name, text) for name, text in SAID if COMMAND_LINE.search(text)]
WITHOUT_KEY = NO_KEY | {
    verb for verb, (name, _) in DONE_BY.items() if all(action.id != name for action in ACTIONS)
}


def test_there_are_messages_with_commands() -> None:
    verbs = {found["verb"] for _, text in COMMANDS for found in COMMAND_LINE.finditer(text)}

    assert verbs >= {"resume", "extend", "set", "retry", "abort", "watch", "fork", "run", "init"}


@pytest.mark.parametrize(("name", "text"), COMMANDS)
def test_every_command_in_a_message_has_a_key_in_the_app(name: str, text: str) -> None:
    told = in_keys(text, {}, screen="runs")

    assert {found["verb"] for found in COMMAND_LINE.finditer(told)} <= WITHOUT_KEY
    assert "--" not in told or "halos-tui" in told, told


def test_what_no_key_does_is_known() -> None:
    assert {*VERBS} - {*DONE_BY} == {*NO_KEY, "doctor", "status", "du", "export"}


def test_the_command_line_names_no_key_of_the_app() -> None:
    named = [
        (name, text)
        for root, of_app in ((APP, False), (BACKEND, True))
        for name, text in messages(root, of_app=of_app)
        if KEY.search(text) and " " in text
    ]

    assert named == []


@pytest.mark.parametrize(
    ("text", "screen", "told"),
    [
        (
            "halos-tui resume a-run takes that back",
            "run",
            "p (Resume) takes that back",
        ),
        (
            "free some, then: halos-tui resume a-run",
            "run",
            "free some, then: p (Resume)",
        ),
        (
            "halos-tui extend a-run --rounds N --runs-dir '/my runs' adds rounds; a new run:"
            " halos-tui run /my/config.toml",
            "runs",
            "e (Extend) adds rounds; a new run: n (New)",
        ),
        (
            "halos-tui set a-run sample.engine=transformers",
            "run",
            "t (Tweak: sample.engine=transformers)",
        ),
        (
            "halos-tui extend a-run --rounds N adds rounds",
            "tweak",
            "esc, e (Extend) adds rounds",
        ),
        ("one of this one with halos-tui fork", "run", "one of this one with f (Fork)"),
        ("$ halos-tui set a-run a=1", "tweak", "$ halos-tui set a-run a=1"),
        ("halos-tui init > run.toml writes one", "new_run", "halos-tui init > run.toml writes one"),
        ("a file halos-tui-x, in halos-tui", "run", "a file halos-tui-x, in halos-tui"),
    ],
)
def test_a_command_becomes_the_key_of_the_screen(text: str, screen: str, told: str) -> None:
    assert in_keys(text, {}, screen=screen) == told  # type: ignore[arg-type]


def test_a_key_that_a_person_moved_is_the_one_that_is_named() -> None:
    assert in_keys("halos-tui resume x", {"pause": "P,ctrl+z"}, screen="run") == "P (Resume)"


def test_a_read_only_app_keeps_the_commands_that_change_a_run() -> None:
    text = "halos-tui resume x; halos-tui logs x"
    assert in_keys(text, {}, screen="run", read_only=True) == "halos-tui resume x; l (Logs)"


REASON = "no space left on the disk; free some, then: halos-tui resume a-run"


def test_why_a_run_failed_names_a_key_on_every_screen(tmp_path: Path) -> None:
    run = MadeRun(tmp_path / "runs")
    run.start_round(1)
    run.start_stage(1, "sample")
    run.fail_stage(1, "sample", REASON)
    run.say(RunFailed(t=STARTED_T + 9, reason=f"sample failed: {REASON}"))

    async def look() -> None:
        for first in (run_screen(run.dir), RunsScreen):
            async with opened(first, root=run.dir.path.parent, size=(120, 40)) as (_, pilot):
                shown = await until_shown(pilot, "free some, then: p (Resume)")
                assert "halos-tui resume" not in shown

    drive(look())


def test_a_refusal_names_a_key(tmp_path: Path) -> None:
    run = MadeRun(tmp_path / "runs")
    run.whole_round(1)

    async def look() -> None:
        async with opened(run_screen(run.dir), root=run.dir.path.parent) as (_, pilot):
            await until_shown(pilot, "lost")
            await pilot.press("e")
            await until_told(pilot, "not completed; t (Tweak: loop.num_rounds=N) changes where")

    drive(look())


REMAPPABLE = re.compile(
    r"\b(?!X )(ctrl\+\w|[a-zA-Z] (?:writes|copies|applies|scrolls?)|[A-Z] and [A-Z])\b"
)
"""A key in a text of a screen's own; those of dialogs and of fields cannot be moved."""
ON_SCREENS = ("completions", "logs", "metrics", "changes", "settings", "new_run", "widgets")


def test_texts_of_screens_name_no_key_that_a_person_may_have_moved() -> None:
    named = [
        (path.name, text)
        for folder in ON_SCREENS
        for path in sorted((APP / folder).rglob("*.py"))
        for text in texts(path)
        if REMAPPABLE.search(text) and " " in text
    ]

    assert named == []


def test_a_screen_names_its_keys_as_they_are_mapped(tmp_path: Path, config_folder: Path) -> None:
    config_folder.mkdir(parents=True)
    (config_folder / "config.toml").write_text('[keys]\nread_on = "f7"\nread_back = "f8"\n')
    run = MadeRun(tmp_path / "runs")
    for round in (1, 2):
        run.whole_round(round)

    async def look() -> None:
        async with shell(tmp_path / "runs", run=run.dir, size=(80, 16)) as (_, pilot):
            await until_shown(pilot, "round prompts")
            await pilot.press("h")
            await until_shown(pilot, "lines below; f7 and f8 scroll")

    drive(look())

"""Knows which key does what: the user's own configuration of the app, and texts that name keys.

`config.toml` in the user's configuration directory:

    theme = "light"
    mouse = false
    [keys]
    pause = "P"
    search = "ctrl+f,slash"
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import platformdirs
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, format_key

from halos_tui.actions import ACTIONS, ScreenName, actions_of
from halos_tui.commands import COMMAND_LINE
from halos_tui.formatting import visible

NAMES = (unicodedata.name(chr(code)).lower().replace(" ", "_").replace("-", "_")
         for code in range(33, 127))  # fmt: skip
KEYS = frozenset(key.value for key in Keys) | {
    KEY_NAME_REPLACEMENTS.get(name, name) for name in NAMES
}
"""Some keys have names; characters are named too, such as `question_mark`."""
MODIFIERS = ("ctrl+", "shift+", "alt+", "super+", "meta+")


DONE_BY = {
    "pause": ("pause", "Pause"),
    "resume": ("pause", "Resume"),
    "retry": ("retry", "Retry"),
    "set": ("tweak", "Tweak"),
    "extend": ("extend", "Extend"),
    "abort": ("abort", "Abort"),
    "fork": ("fork", "Fork"),
    "logs": ("logs", "Logs"),
    "completions": ("completions", "Completions"),
    "run": ("new_run", "New"),
    "watch": ("open", "Open"),
    "attach": ("open", "Open"),
    "rm": ("delete", "Delete"),
    **dict.fromkeys(("title", "note", "tag"), ("own_words", "Notes")),
}
"""Names the action that does what a verb does, and its title. Verbs that are not here have none."""


@dataclass(frozen=True)
class UserConfig:
    """`keys` maps action ids to Textual's names of keys; `problems` says what was left out."""

    keys: Mapping[str, str] = field(default_factory=dict)
    theme: str | None = None
    mouse: bool = True
    problems: tuple[str, ...] = ()


def config_path() -> Path:
    return platformdirs.user_config_path("halos-tui") / "config.toml"


def load_config(path: Path | None = None) -> UserConfig:
    """Loads the configuration; a wrong part is left out and reported, and the app starts all the
    same.
    """
    path = config_path() if path is None else path
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return UserConfig()
    except (OSError, ValueError) as error:
        return UserConfig(problems=(f"{path}: {visible(str(error))}",))
    problems = [
        f"{path}: no setting '{visible(name)}'; there are keys, theme and mouse"
        for name in table
        if name not in ("keys", "theme", "mouse")
    ]
    keys = _keys(table.get("keys", {}), path, problems)
    theme, mouse = table.get("theme"), table.get("mouse", True)
    if theme is not None and not isinstance(theme, str):
        problems.append(f"{path}: theme is the name of a theme, in quotation marks")
        theme = None
    if not isinstance(mouse, bool):
        problems.append(f"{path}: mouse is true or false")
        mouse = True
    return UserConfig(keys, theme, mouse, tuple(problems))


def shown_key(key: str, *, is_ascii: bool = False) -> str:
    """Writes a key as people know it: ⏎, ctrl+s; with `is_ascii` a symbol's name: enter."""
    shown = format_key(key)
    return key if is_ascii and not shown.isascii() else shown


def keys_of(screen: ScreenName, keys: Mapping[str, str]) -> dict[str, str]:
    """Returns the key of each action id on one screen, as remapped."""
    return {action.id: keys.get(action.id, action.keys) for action in actions_of(screen)}


def in_keys(
    text: str, keys: Mapping[str, str], *, screen: ScreenName | None, read_only: bool = False
) -> str:
    """Writes the commands of a text as the keys that do the same: `p (Resume)`.

    A key of another screen has `esc` before it, which leads there. Commands without a key stay, and
    with `read_only` those that change a run.
    """

    def worded(found: re.Match[str]) -> str:
        verb, more = found["verb"], found["more"].split()
        name, title = ("plan", "Plan") if "--dry-run" in more else DONE_BY.get(verb, ("", ""))
        action = next((action for action in ACTIONS if action.id == name), None)
        if action is None or (read_only and action.writes):
            return found[0]
        settings = "".join(f" {word}" for word in more if "=" in word)
        first = format_key(keys.get(name, action.keys).split(",")[0])
        is_here = any(other.id == name for other in actions_of(screen)) if screen else False
        return f"{'' if is_here else 'esc, '}{first} ({title}{':' if settings else ''}{settings})"

    return COMMAND_LINE.sub(worded, text).replace("name: --name ", "name: ")


def _keys(found: Any, path: Path, problems: list[str]) -> dict[str, str]:
    if not isinstance(found, dict):
        problems.append(f'{path}: [keys] is a table of lines such as pause = "P"')
        return {}
    known = {action.id for action in ACTIONS}
    keys: dict[str, str] = {}
    for name, value in found.items():
        if name not in known:
            problems.append(f"{path}: keys.{visible(name)}: no such action; ? shows them")
        elif not isinstance(value, str) or not all(map(is_key, value.split(","))):
            problems.append(f"{path}: keys.{name} = {visible(str(value))!r} is no key")
        else:
            keys[name] = value
    while found_clash := _first_clash(keys):
        name, other = found_clash
        problems.append(f"{path}: keys.{name} = {keys[name]!r} is the key of {other} already")
        del keys[name]
    return keys


def is_key(name: str) -> bool:
    """Says whether Textual knows a key of that name: one character, or a word such as `ctrl+p`."""
    bare = name
    for modifier in MODIFIERS:
        bare = bare.removeprefix(modifier)
    return len(bare) == 1 or bare in KEYS


def _first_clash(keys: Mapping[str, str]) -> tuple[str, str] | None:
    """Returns a remapped action, and another that has one of its keys on a screen that both are
    on.
    """
    for screen in get_args(ScreenName):
        here = keys_of(screen, keys)
        for name in here:
            for other, others in here.items():
                is_same = set(here[name].split(",")) & set(others.split(","))
                if name in keys and other != name and is_same:
                    return name, other
    return None

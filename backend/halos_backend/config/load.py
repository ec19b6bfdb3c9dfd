"""Reads a run file and its overrides into settings, or says everything that is wrong with them.

The rules between settings are `check`'s, the words for single settings `wording`'s. Whether models
and prompts are any good is found out by the prepare stage, not here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from halos_backend.config.check import find_conflicts
from halos_backend.config.guards import with_default_guards
from halos_backend.config.overrides import apply_overrides, overridden_keys
from halos_backend.config.schema import RunSettings
from halos_backend.config.toml_text import parse_toml, read_run_file
from halos_backend.config.wording import Problem, find_problems
from halos_backend.errors import SettingsError

PLACEHOLDER = "PATH/TO/"
"""How the values begin that `init` leaves to the person."""

PATH_KEYS = (
    "policy.path",
    "policy.chat_template",
    "prompts.path",
    "prompts.held_out",
    "label.judge.path",
    "label.judge.function",
    "train.reference",
)
PROGRAM_KEYS = ("sample.python", "label.python")
"""Programs, whose links are not followed: a virtual environment's python is one."""
FILE_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".jinja", ".py")
"""Endings of what is always a file, never a hub name."""


def load_settings(
    path: Path, overrides: Sequence[str] = (), *, text: str | None = None
) -> RunSettings:
    """The settings of the run file at `path`, with `--set` overrides in place. `text` is the file's
    where it was read already, which a pipe is only once.

    Relative paths in the file are looked for in its own directory, those of overrides first in the
    working directory. Raises UsageError for a file that is no TOML, SettingsError with everything
    that is wrong in it.
    """
    if text is None:
        text = read_run_file(path)
    return parse_settings(
        parse_toml(text, source=str(path)),
        source=str(path),
        overrides=overrides,
        directory=path.parent,
        text=text,
    )


def parse_settings(
    table: Mapping[str, Any],
    *,
    source: str,
    overrides: Sequence[str] = (),
    directory: Path | None = None,
    text: str = "",
) -> RunSettings:
    """Settings from tables; see `load_settings`. Without `directory` paths stay as they are. By the
    file's `text` problems name their lines.

    An override that switches a kind keeps the keys that both kinds have and drops the old one's.
    Guards go over the default ones of their names.
    """
    merged, problems = apply_overrides(RunSettings, table, overrides)
    merged["guards"] = with_default_guards(merged.get("guards"))
    found = problems + [
        problem for problem in find_problems(RunSettings, merged) if problem not in problems
    ]
    if found:
        raise SettingsError(source, found)
    if directory is not None:
        _resolve_paths(merged, directory, overridden_keys(overrides))
    settings = RunSettings.model_validate(merged)
    if conflicts := _placeholders(merged, text) + find_conflicts(settings):
        raise SettingsError(source, conflicts)
    return settings


def resolve(settings: RunSettings, *, num_cores: int | None = None) -> RunSettings:
    """Settings with what depends on the machine filled in: `launch.num_threads`.

    `num_cores` defaults to the physical cores this process may use.
    """
    launch = settings.launch
    if launch.num_threads is not None:
        return settings
    cores = usable_cores() if num_cores is None else num_cores
    threads = max(1, cores // launch.num_processes)
    return settings.model_copy(
        update={"launch": launch.model_copy(update={"num_threads": threads})}
    )


def usable_cores() -> int:
    """Physical cores, or fewer where the process is confined to some of them."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def _resolve_paths(merged: dict[str, Any], directory: Path, overridden: frozenset[str]) -> None:
    """Make the paths in `merged` absolute; what is no file there is taken for a hub name."""
    for key in PATH_KEYS:
        *parents, name = key.split(".")
        table: Any = merged
        for parent in parents:
            table = table.get(parent, {})
        if isinstance(value := table.get(name), str):
            table[name] = resolve_path(value, _places(key, directory, overridden))
    for key in PROGRAM_KEYS:
        table_name, _, name = key.partition(".")
        table = merged.get(table_name) or {}
        if isinstance(value := table.get(name), str):
            table[name] = resolve_program(value, _places(key, directory, overridden))
    notify = merged.get("notify") or {}
    if (command := notify.get("command")) and "/" in command[0]:
        places = _places("notify.command", directory, overridden)
        notify["command"] = [resolve_path(command[0], places), *command[1:]]


def _places(key: str, directory: Path, overridden: frozenset[str]) -> tuple[Path, ...]:
    """Where a setting's path is looked for: what was typed first in the working directory."""
    typed = any(key == named or key.startswith(f"{named}.") for named in overridden)
    return (Path.cwd(), directory) if typed else (directory,)


def resolve_path(value: str, places: Sequence[Path]) -> str:
    """`value` made absolute where it is a file in one of `places` or can be nothing but a file.

    What is left as it is may be a hub name, or a word such as `initial`.
    """
    file, colon, function = value.rpartition(":") if ".py:" in value else (value, "", "")
    path = Path(os.path.expanduser(file))  # noqa: PTH111  Path's own raises for an unknown user
    for place in places:
        if os.path.exists(place / path):  # noqa: PTH110  Path's own raises where it may not look
            return f"{os.path.realpath(place / path)}{colon}{function}"
    is_file = value.startswith(("./", "../", "~")) or path.suffix in FILE_SUFFIXES
    return f"{os.path.realpath(places[0] / path)}{colon}{function}" if is_file else value


def resolve_program(value: str, places: Sequence[Path]) -> str:
    """A program's path made absolute, its links kept; a bare name is looked for in PATH later."""
    if "/" not in value:
        return value
    path = Path(os.path.expanduser(value))  # noqa: PTH111  as above
    tried = [place / path for place in places]
    found = next((path for path in tried if os.path.exists(path)), tried[0])  # noqa: PTH110
    return os.path.abspath(found)  # noqa: PTH100  resolve() would follow the links


def _placeholders(merged: Mapping[str, Any], text: str) -> list[Problem]:
    lines = text.splitlines()
    found = []
    for key in PATH_KEYS:
        value: Any = merged
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and PLACEHOLDER in value:
            written = value[value.index(PLACEHOLDER) :]
            at = (f"line {i}: " for i, line in enumerate(lines, 1) if written in line)
            reason = f"{next(at, '')}still as halos-tui init wrote it: name your own there"
            found.append((key, reason))
    return found

"""Reads a run file and its `--set KEY=VALUE` overrides into settings, or says everything that is
wrong.

`check` owns the rules between settings, `wording` the words for single settings. The prepare stage,
not this module, finds out whether models and prompts are any good.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from halos_backend.config.conflicts import find_conflicts
from halos_backend.config.guards import with_default_guards
from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import field_at, kinds_of, table_at, value_types
from halos_backend.config.table import Table
from halos_backend.config.toml_text import (
    BARE_KEY,
    format_value,
    parse_toml,
    parse_value,
    read_run_file,
)
from halos_backend.config.wording import Problem, find_problems, unknown_key
from halos_backend.errors import SettingsError
from halos_backend.settings_json import value_at

PLACEHOLDER = "PATH/TO/"
"""Begins each value that `init` leaves to the person."""

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
"""Names the settings that are programs. Their links are not followed: a virtual environment's
python is one.
"""
FILE_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".jinja", ".py")
"""Lists the endings of what is always a file, never a hub name."""

DEFAULT = "default"
"""Is the value that asks for a setting's default."""
NO_VALUE = "has no value behind the ="
SHORT_FLOAT = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")
"""Matches `.1` and `1.`, which are numbers to a person and not to TOML."""


def load_settings(
    path: Path, overrides: Sequence[str] = (), *, text: str | None = None
) -> RunSettings:
    """Returns the settings of the run file at `path`, with `--set` overrides in place.

    `text` is the file's text where the caller has read it already, because a pipe can be read only
    once.

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
    """Makes settings from tables; see `load_settings`.

    Without `directory` paths stay as they are. With the file's `text` problems name their lines.

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
    """Fills in what depends on the machine: `launch.num_threads`.

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
    """Counts the physical cores, or fewer where the process is confined to some of them."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def _resolve_paths(merged: dict[str, Any], directory: Path, overridden: frozenset[str]) -> None:
    """Makes the paths in `merged` absolute; what is no file there is taken for a hub name."""
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
    """Returns where a setting's path is looked for: an override's first in the working
    directory.
    """
    typed = any(key == named or key.startswith(f"{named}.") for named in overridden)
    return (Path.cwd(), directory) if typed else (directory,)


def resolve_path(value: str, places: Sequence[Path]) -> str:
    """Returns `value` made absolute where it is a file in one of `places` or can be nothing but a
    file.

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
    """Returns a program's path made absolute, its links kept; a bare name is looked for in PATH
    later.
    """
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


@dataclass(frozen=True)
class Override:
    """Is one `KEY=VALUE`: a dotted path and the text after the equals sign."""

    path: tuple[str, ...]
    text: str

    @property
    def key(self) -> str:
        return ".".join(self.path)


def apply_overrides(
    root: type[Table], table: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Returns a copy of `table` with the overrides in it, and what is wrong with them.

    A VALUE is a TOML value, else text. The word `default` takes the key out, so that its default
    holds, or nothing where it may be absent; the text of that word is written in quotes.
    Kinds are switched first: of the old kind's keys only those stay that the new kind has too
    (`train.loss.kind=kto` keeps dpo's beta), so that the other overrides meet the new kind.
    """
    result = _copy(table)
    problems: list[Problem] = []
    parsed = [_split(text, problems) for text in overrides]
    known = [override for override in parsed if override is not None]
    for override in sorted(known, key=lambda entry: entry.path[-1] != "kind"):
        problems.extend(_apply(root, result, override))
    return result, problems


def overridden_keys(overrides: Sequence[str]) -> frozenset[str]:
    """Returns the dotted keys that the overrides name."""
    keys = (text.partition("=")[0].split(".") for text in overrides)
    return frozenset(".".join(part.strip() for part in key) for key in keys)


def _split(text: str, problems: list[Problem]) -> Override | None:
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(BARE_KEY.fullmatch(part) for part in path):
        problems.append((text, "write KEY=VALUE, for example train.lr=1e-6"))
        return None
    return Override(path, value.strip())


def _apply(root: type[Table], result: dict[str, Any], override: Override) -> list[Problem]:
    if not override.text:
        return [(override.key, f"{NO_VALUE}; {override.key}={DEFAULT} has its default hold")]
    if override.text == DEFAULT:
        return _take_out(root, result, override)
    table = result
    for depth, key in enumerate(override.path[:-1], start=1):
        if table.get(key) is None:  # resolved settings say null where a run file says nothing
            table[key] = {}
        inner = table[key]
        if not isinstance(inner, dict):
            where = ".".join(override.path[:depth])
            return [(override.key, f"{where} is a value, not a table: nothing can be set below it")]
        table = inner
    value = _value(root, result, override)
    if override.path[-1] == "kind":
        _drop_keys_of_old_kind(root, result, override, value)
    table[override.path[-1]] = value
    return []


def _take_out(root: type[Table], result: dict[str, Any], override: Override) -> list[Problem]:
    *parents, name = override.path
    schema = table_at(root, parents, result)
    if schema is not None and name not in schema.model_fields:
        return [(override.key, unknown_key(schema, name, path=override.key, root=root))]
    if schema is not None and schema.model_fields[name].is_required():
        return [(override.key, "has no default: write a value")]
    table: Any = result
    for key in parents:
        table = table.get(key) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table.pop(name, None)
    if parents[:1] == ["guards"] or (parents, name) == ([], "guards"):
        result["guards"] = with_default_guards(
            result.get("guards"), among=override.path[1:2] or None
        )
    return []


def defaults_taken(overrides: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Says, in sentences, which values the overrides that ask for a default get in `settings`,
    resolved.
    """
    parsed = [_split(text, []) for text in overrides]
    keys = [entry.key for entry in parsed if entry is not None and entry.text == DEFAULT]
    return [f"{key} is {_in_words(value_at(key, settings))}, its default" for key in keys]


def _in_words(value: Any) -> str:
    match value:
        case None:
            return "unset"
        case Mapping():
            return "as a run file without it has it"
        case _:
            return format_value(value)


def _value(root: type[Table], result: Mapping[str, Any], override: Override) -> Any:
    if SHORT_FLOAT.fullmatch(override.text):
        return float(override.text)
    value = parse_value(override.text)
    field = field_at(root, override.path, result)
    takes_text_only = field is not None and value_types(field) == {str}
    is_date = isinstance(value, datetime.date | datetime.time)
    if is_date or (takes_text_only and not isinstance(value, str)):
        return override.text
    return value


def _drop_keys_of_old_kind(
    root: type[Table], result: dict[str, Any], override: Override, new_kind: object
) -> None:
    """Drops the keys of the old kind; mistyped keys, which no kind has, stay, so that they are
    reported.
    """
    field = field_at(root, override.path[:-1], result)
    kinds = {} if field is None else kinds_of(field)
    table: Any = result
    for key in override.path[:-1]:
        table = table[key]
    old, new = kinds.get(str(table.get("kind"))), kinds.get(str(new_kind))
    if old is None or new is None:
        return
    for key in [key for key in table if key in old.model_fields and key not in new.model_fields]:
        del table[key]


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(entry) for key, entry in value.items()}
    return value

"""Applies `--set KEY=VALUE` to a run file's tables."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halos_backend.config.guards import with_default_guards
from halos_backend.config.shape import field_at, kinds_of, table_at, value_types
from halos_backend.config.table import Table
from halos_backend.config.toml_text import BARE_KEY, format_value, parse_value
from halos_backend.config.wording import Problem, unknown_key
from halos_backend.settings_json import value_at

DEFAULT = "default"
"""The value that means a setting's default."""
NO_VALUE = "has no value behind the ="
SHORT_FLOAT = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")
"""`.1` and `1.`: numbers to a person, not to TOML."""


@dataclass(frozen=True)
class Override:
    """One `KEY=VALUE`: a dotted path and the text after the equals sign."""

    path: tuple[str, ...]
    text: str

    @property
    def key(self) -> str:
        return ".".join(self.path)


def apply_overrides(
    root: type[Table], table: Mapping[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """A copy of `table` with the overrides in it, and what is wrong with them.

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
    """The dotted keys that the overrides name."""
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
    """What the overrides that ask for a default come to in `settings`, resolved, as sentences."""
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
    """Mistyped keys, which no kind has, stay: they are to be reported."""
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

"""Words every problem of a run file: what pydantic finds, said with the person's own names.

Also finds what pydantic lets pass: text for numbers, true for 1, infinity.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from halos_backend.config.shape import (
    any_of,
    choices_of,
    describe,
    describe_entry,
    entry_choices,
    entry_table,
    first_sentence,
    held_table,
    kind_of,
    kinds_of,
    places_of,
    tables_of,
    value_types,
)
from halos_backend.config.table import Table

Problem = tuple[str, str]
"""Names a setting's dotted path, and says what is wrong with it."""

MAX_SHOWN_CHARS = 60
KEY_ITSELF = "[key]"
"""Is where pydantic's location ends when a name that the person gave is wrong, not what
it names.
"""
UNSHOWN = frozenset({"api_key_env", "base_url"})
"""Names settings in whose place a person may have written a secret."""
BAD_NAME = "is no name: write small letters, digits and _, beginning with a letter"


def find_problems(root: type[Table], values: Mapping[str, Any]) -> list[Problem]:
    """Returns everything wrong with single settings of `values`; one reason for each path."""
    problems: dict[str, str] = {}
    try:
        root.model_validate(values)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False):
            path, reason = _word(root, details)
            problems.setdefault(path, reason)
    for path, reason in _find_loose_values(root, values, ()):
        problems.setdefault(path, reason)
    entries = {path.partition("[")[0] for path in problems if "[" in path}
    return [problem for problem in problems.items() if problem[0] not in entries]


def unknown_key(table: type[Table], key: str, *, path: str, root: type[Table]) -> str:
    """Says why `key` is not one of the table's, and which name was probably meant."""
    names = list(table.model_fields)
    if near := difflib.get_close_matches(key, names, n=1):
        return f"unknown key; did you mean '{near[0]}'?"
    places = list(places_of(key, root))
    if places and path not in places:
        return f"unknown key here; did you mean '{places[0]}'?"
    kind = kind_of(table)
    of_kind = "" if kind is None else f" of kind '{kind}'"
    return f"unknown key{of_kind}; the names here are {', '.join(names)}"


def unknown_choice(value: object, choices: Sequence[str]) -> str:
    """Says why a word is none of those a setting takes, and which was probably meant."""
    near = difflib.get_close_matches(str(value), choices, n=1)
    meant = f"; did you mean '{near[0]}'?" if near else ""
    return f"takes {any_of([repr(choice) for choice in choices])}, not {show(value)}{meant}"


def show(value: object) -> str:
    """Writes a value of a run file on one line, as TOML would have it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case str() if len(value) > MAX_SHOWN_CHARS:
            return f"{value[:MAX_SHOWN_CHARS]!r}..."
        case str() | int() | float():
            return repr(value)
        case _:
            return f"a {type(value).__name__}"


def _word(root: type[Table], details: ErrorDetails) -> Problem:
    location, value = details["loc"], details["input"]
    if location[-1] == KEY_ITSELF:
        return ".".join(map(str, location[:-1])), BAD_NAME
    table, field, path = _locate(root, location)
    match details["type"]:
        case "extra_forbidden":
            return path, unknown_key(table, path.rpartition(".")[2], path=path, root=root)
        case "missing" if field is not None:
            return path, _missing(field, path)
        case "union_tag_invalid" if field is not None:
            kind = value.get("kind") if isinstance(value, Mapping) else None
            return f"{path}.kind", unknown_choice(kind, list(kinds_of(field)))
        case "union_tag_not_found" if field is not None:
            kinds = any_of([repr(kind) for kind in kinds_of(field)])
            return f"{path}.kind", f"is missing: write kind = {kinds}"
    if field is not None and tables_of(field):
        kind = " with a kind" if kinds_of(field) else ""
        return path, f"is a table: write [{path}]{kind}, not {show(value)}"
    if field is None:
        return path, f"is a table: write [{path}], not {show(value)}"
    if entry_table(field) is not None:
        return path, f"holds tables: write [{path}.NAME], not {show(value)}"
    return path, _wrong_value(field, path, value)


def _locate(
    root: type[Table], loc: tuple[int | str, ...]
) -> tuple[type[Table], FieldInfo | None, str]:
    """Returns the innermost table, field and dotted path of a pydantic location.

    The location also names union members ("dpo", "float"), which a run file does not have.
    """
    table, path = root, ""
    field: FieldInfo | None = None
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif field is not None and part in kinds_of(field):
            table, field = kinds_of(field)[part], None
        elif field is None or tables_of(field):
            table = table if field is None else tables_of(field)[0]
            field = table.model_fields.get(part)
            path = f"{path}.{part}" if path else part
            if field is None:
                break
        elif (entries := entry_table(field)) is not None:
            table, field, path = entries, None, f"{path}.{part}"
    return table, field, path


def _missing(field: FieldInfo, path: str) -> str:
    about = first_sentence(field.description)
    if kinds := kinds_of(field):
        names = any_of([repr(kind) for kind in kinds])
        return f"is missing: write a table [{path}] with kind = {names} ({about})"
    if tables_of(field):
        return f"is missing: write a table [{path}] ({about})"
    if choices := choices_of(field):
        names = any_of([repr(choice) for choice in choices])
        return f"is missing: write {path.rpartition('.')[2]} = {names} ({about})"
    return f"is missing ({about})"


def _wrong_value(field: FieldInfo, path: str, value: object) -> str:
    name = path.rpartition(".")[2]
    if name.endswith("]"):
        if (choices := entry_choices(field)) and isinstance(value, str):
            return unknown_choice(value, choices)
        return f"has to be {describe_entry(field)}, not {show(value)}"
    if path == "label.feedback.threshold" and value in ("mean", "median"):
        return f"'{value}' fits binary feedback only; pairwise takes {describe(name, field)}"
    choices = choices_of(field)
    if choices and isinstance(value, str) and value_types(field) == {str}:
        return unknown_choice(value, choices)
    shown = "what is written there" if name in UNSHOWN else show(value)
    return f"takes {describe(name, field)}, not {shown}"


def _find_loose_values(
    table: type[Table], values: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[Problem]:
    for key, value in values.items():
        field = table.model_fields.get(key)
        if field is None:
            continue
        here = (*path, key)
        if (entries := entry_table(field)) is not None:
            yield from _find_loose_entries(entries, value, here)
            continue
        inner = held_table(field, value)
        if inner is not None and isinstance(value, Mapping):
            yield from _find_loose_values(inner, value, here)
        elif not tables_of(field) and _is_loose(field, value):
            yield ".".join(here), f"takes {describe(key, field)}, not {show(value)}"


def _find_loose_entries(
    table: type[Table], entries: object, path: tuple[str, ...]
) -> Iterator[Problem]:
    for name, values in entries.items() if isinstance(entries, Mapping) else ():
        if isinstance(values, Mapping):
            yield from _find_loose_values(table, values, (*path, name))


def _is_loose(field: FieldInfo, value: object) -> bool:
    """Says whether pydantic would bend `value` into the field's type, or let infinity through."""
    types = value_types(field)
    match value:
        case bool():
            return bool not in types
        case int() | float():
            return types == {bool} or (isinstance(value, float) and not math.isfinite(value))
        case str():
            return str not in types or (
                bool(choices_of(field)) and float in types and value not in choices_of(field)
            )
        case _:
            return False

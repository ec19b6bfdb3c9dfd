"""Looks into the schema: which tables and values stand where, and how a value is described.

The errors (`wording`), the overrides (`load`) and the files of `init` share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from halos_backend.config.table import Table

FORMS = {
    "function": "file.py:name (a Python file and a function in it)",
    "base_url": "http://HOST/v1 or https://HOST/v1 (without a user's name or password)",
    "api_key_env": "NAME (an environment variable, which holds the key)",
}
"""Says what a pattern of the schema asks for, by the field's name."""


def tables_of(field: FieldInfo) -> tuple[type[Table], ...]:
    """Returns the tables a field may hold: none for a value, several for a union on `kind`."""
    return tuple(
        member
        for member in _members(field.annotation)
        if isinstance(member, type) and issubclass(member, Table)
    )


def entry_table(field: FieldInfo) -> type[Table] | None:
    """Returns the table of which a field holds any number, each under a name that the
    person gives.
    """
    for member in _members(field.annotation):
        if get_origin(member) is dict:
            table = get_args(member)[1]
            return table if isinstance(table, type) and issubclass(table, Table) else None
    return None


def kind_of(table: type[Table]) -> str | None:
    """Returns the `kind` that names this table in its union; None for a table without kinds."""
    field = table.model_fields.get("kind")
    return None if field is None else str(get_args(field.annotation)[0])


def kinds_of(field: FieldInfo) -> dict[str, type[Table]]:
    """Returns the tables of a union on `kind`, by kind; empty for anything else."""
    return {kind: table for table in tables_of(field) if (kind := kind_of(table)) is not None}


def held_table(field: FieldInfo, value: object) -> type[Table] | None:
    """Returns the table that `value` is meant to be: by its kind in a union; None where that is
    unclear.
    """
    if kinds := kinds_of(field):
        kind = value.get("kind") if isinstance(value, Mapping) else None
        return kinds.get(kind) if isinstance(kind, str) else None
    return next(iter(tables_of(field)), None)


def table_at(root: type[Table], path: Sequence[str], values: object) -> type[Table] | None:
    """Returns the table a dotted path names, with union kinds read from `values`; None if there is
    none.
    """
    table: type[Table] | None = root
    entries: type[Table] | None = None
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
        if entries is not None:
            table, entries = entries, None
            continue
        field = None if table is None else table.model_fields.get(key)
        if field is None:
            return None
        table, entries = held_table(field, values), entry_table(field)
    return table


def field_at(root: type[Table], path: Sequence[str], values: object) -> FieldInfo | None:
    """Returns the field a dotted path names, with union kinds read from `values`; None if there is
    none.
    """
    table = table_at(root, path[:-1], values)
    return None if table is None else table.model_fields.get(path[-1])


def places_of(name: str, table: type[Table], *, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields the dotted paths of all fields called `name`, in this table and below."""
    for key, field in table.model_fields.items():
        if key == name:
            yield ".".join((*path, key))
        for inner in tables_of(field):
            yield from places_of(name, inner, path=(*path, key))
        if (entries := entry_table(field)) is not None:
            yield from places_of(name, entries, path=(*path, key, "NAME"))


def value_types(field: FieldInfo) -> set[object]:
    """Returns the plain types a field takes; a literal counts as its values' type, `tuple` as a
    list.
    """
    types: set[object] = set()
    for member in _members(field.annotation):
        if get_origin(member) is Literal:
            types.update(type(choice) for choice in get_args(member))
        else:
            types.add(get_origin(member) or member)
    return types - {type(None)}


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """Returns the words a field takes, from its literals."""
    return tuple(
        choice
        for member in _members(field.annotation)
        if get_origin(member) is Literal
        for choice in get_args(member)
    )


def describe(name: str, field: FieldInfo) -> str:
    """Says in words what a field takes: "a number above 0", "'mean', 'median' or a number"."""
    names = [repr(choice) for choice in choices_of(field)]
    types = value_types(field)
    if bool in types:
        names.append("true or false")
    if int in types:
        names.append(f"a whole number{_bounds(field)}")
    if float in types:
        names.append(f"a number{_bounds(field)}")
    if str in types and not choices_of(field):
        names.append(_text(name, field))
    if tuple in types:
        names.append(_list(field))
    if dict in types:
        names.append("a table")
    return any_of(names)


def describe_entry(field: FieldInfo) -> str:
    """Says what one entry of a list field has to be."""
    if choices := entry_choices(field):
        return any_of([repr(choice) for choice in choices])
    types = _entry_types(field)
    if not {int, float} & set(types):
        return "text"
    return ("a number" if float in types else "a whole number") + _bounds(_entry(field))


def entry_choices(field: FieldInfo) -> tuple[str, ...]:
    """Returns the words that a list field is made of, from its literals."""
    literals = [member for member in _entry_types(field) if get_origin(member) is Literal]
    return tuple(choice for literal in literals for choice in get_args(literal))


def any_of(names: Sequence[str]) -> str:
    """Joins names in words: `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def first_sentence(text: str | None) -> str:
    """Returns a docstring's first sentence on one line, without its full stop."""
    line = " ".join((text or "").split())
    return re.split(r"(?<!et al)\. ", line)[0].removesuffix(".")


def _members(annotation: Any) -> tuple[Any, ...]:
    """Returns a union's members with their constraints taken off; the annotation itself
    otherwise.
    """
    if get_origin(annotation) in (Union, UnionType):
        return tuple(inner for part in get_args(annotation) for inner in _members(part))
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    return (annotation,)


def _metadata(field: FieldInfo) -> list[Any]:
    """Returns the constraints of the field, also those inside `X | None`."""
    found = list(field.metadata)
    for part in get_args(field.annotation):
        for entry in getattr(part, "__metadata__", ()):
            found.extend(entry.metadata if isinstance(entry, FieldInfo) else [entry])
    return found


def _bounds(field: FieldInfo) -> str:
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    parts = [
        f"{word} {limit:g}"
        for entry in _metadata(field)
        for name, word in words.items()
        if (limit := getattr(entry, name, None)) is not None
    ]
    return f" {' and '.join(parts)}" if parts else ""


def _text(name: str, field: FieldInfo) -> str:
    metadata = _metadata(field)
    if any(getattr(entry, "pattern", None) for entry in metadata):
        return f"text of the form {FORMS[name]}"
    if any(getattr(entry, "min_length", None) for entry in metadata):
        return "text that is not empty"
    return "text"


def _list(field: FieldInfo) -> str:
    if choices := entry_choices(field):
        return f"a list of {any_of([repr(choice) for choice in choices])}"
    if float in _entry_types(field):
        return "a list of numbers"
    return "a list of whole numbers" if int in _entry_types(field) else "a list of texts"


def _entry_types(field: FieldInfo) -> tuple[Any, ...]:
    """Returns what the entries of a list field may be."""
    lists = [member for member in _members(field.annotation) if get_origin(member) is tuple]
    return tuple(inner for member in lists for inner in _members(get_args(member)[0]))


def _entry(field: FieldInfo) -> FieldInfo:
    """Returns an entry of a list field as a field of its own."""
    lists = (member for member in _members(field.annotation) if get_origin(member) is tuple)
    return FieldInfo.from_annotation(get_args(next(lists))[0])

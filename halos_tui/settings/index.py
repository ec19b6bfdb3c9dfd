"""Lists the settings' paths, help and values so that completion reads them without pydantic.

The list is made of the schema, and kept in the cache for as long as the schema's files are the
same.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import halos_backend.config
import msgspec
from halos_backend import atomic
from halos_backend.store.run_dir import cache_root

NAME = "NAME"
"""It stands in a path for the name of a table that the person gives."""


class Entry(msgspec.Struct, frozen=True):
    """`values` are all that the setting takes, where these are few.

    `names` are those of the tables that there are at first. `default` is what the word `default`
    means; empty where there is none.
    """

    path: str
    help: str
    values: tuple[str, ...] = ()
    value_help: dict[str, str] = {}
    names: tuple[str, ...] = ()
    default: str = ""


class StoredIndex(msgspec.Struct, frozen=True):
    """Holds the list, and which schema it is of."""

    digest: str
    entries: list[Entry]


def read_index() -> list[Entry]:
    """Returns every setting, of all kinds of its unions."""
    path, digest = cache_root() / "settings.json", _schema_digest()
    with contextlib.suppress(OSError, msgspec.DecodeError):
        stored = msgspec.json.decode(path.read_bytes(), type=StoredIndex)
        if stored.digest == digest:
            return stored.entries
    entries = make_index()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, msgspec.json.encode(StoredIndex(digest, entries)), durable=False)
    return entries


def make_index() -> list[Entry]:
    """Makes the list from the schema itself; imports pydantic."""
    from halos_backend.config.schema import RunSettings

    entries = {entry.path: entry for entry in _entries(RunSettings, ())}
    return list(entries.values())


def _entries(table: Any, path: tuple[str, ...], names: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Walks depth first; of keys that several kinds have, the last one's counts."""
    from halos_backend.config.shape import (
        choices_of,
        entry_table,
        first_sentence,
        kinds_of,
        tables_of,
        value_types,
    )

    for name, field in table.model_fields.items():
        here = (*path, name)
        about = first_sentence(field.description)
        if kinds := kinds_of(field):
            helps = {kind: first_sentence(member.__doc__) for kind, member in kinds.items()}
            yield Entry(".".join((*here, "kind")), about, tuple(kinds), helps, names)
        if (entry := entry_table(field)) is not None:
            yield from _entries(entry, (*here, NAME), tuple(field.get_default() or ()))
        elif tables := tables_of(field):
            for member in tables:
                yield from _entries(member, here, names)
        elif name != "kind":
            types = value_types(field)
            values = ("false", "true") if types == {bool} else choices_of(field)
            few = values if types <= {bool, str} else ()
            yield Entry(".".join(here), about, few, {}, names, _default_of(field))


def _default_of(field: Any) -> str:
    if field.is_required():
        return ""
    from halos_backend.config.toml_text import format_value

    value = field.get_default()
    return "unset" if value is None else format_value(value)


def _schema_digest() -> str:
    """Returns a digest of the names, sizes and times of the files that the schema is made of."""
    stats = [
        (path.name, stat.st_size, stat.st_mtime_ns)
        for path in sorted(Path(halos_backend.config.__file__).parent.glob("*.py"))
        for stat in [path.stat()]
    ]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]

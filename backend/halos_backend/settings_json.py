"""Compares and changes settings that are plain JSON, without knowing their schema.

A dotted path names a setting: `train.loss.beta`. A change holds from a round on. The journal's fold
applies recorded changes with this module, `config.changes` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

Changes = dict[str, tuple[Any, Any]]
"""Maps each dotted path to the value before and the value now; None is what is unset."""


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Returns every setting that differs.

    A table that is on one side only, or whose `kind` differs, is one entry as a whole: its keys
    mean something else on the other side. An absent key is as good as a null.
    """
    return dict(_differences(old, new, ()))


def apply_changes(
    settings: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """Returns the settings with the new value of each of `changes` in place; those given stay as
    they are.

    What stands on a path in place of a table is replaced by one. Tables that nothing changes are
    shared with `settings`.
    """
    result = dict(settings)
    for path, (_, now) in changes.items():
        _set(result, path.split("."), now)
    return result


def value_at(path: str, settings: Any) -> Any:
    """Returns what stands at a dotted path; None where nothing does."""
    for key in path.split("."):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings


def is_at_or_below(path: str, table: str) -> bool:
    """Says whether a dotted path is that of `table` or of something in it."""
    return path == table or path.startswith(f"{table}.")


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key in dict.fromkeys((*old, *new)):
        before, now = old.get(key), new.get(key)
        here = (*path, key)
        if isinstance(before, Mapping) and isinstance(now, Mapping) and _same_kind(before, now):
            yield from _differences(before, now, here)
        elif before != now:
            yield ".".join(here), (before, now)


def _same_kind(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one.get("kind") == other.get("kind"))


def _set(table: dict[str, Any], path: list[str], value: Any) -> None:
    key, *rest = path
    if not rest:
        table[key] = value
        return
    inner = table.get(key)
    table[key] = dict(inner) if isinstance(inner, Mapping) else {}
    _set(table[key], rest, value)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Holds settings that apply from a round on: {dotted path: [before, now]}."""

    t: float
    from_round: int
    changes: dict[str, tuple[Any, Any]]
    by: str = ""


def settings_after(
    settings: dict[str, Any], changes: Iterable[Change], round: int
) -> dict[str, Any]:
    """Returns the settings with all changes that hold for a round in place, in the order of their
    rounds.

    A later change of the same round goes over an earlier one.
    """
    due = [change for change in changes if change.from_round <= round]
    for change in sorted(due, key=lambda change: change.from_round):
        settings = apply_changes(settings, change.changes)
    return settings


class LastChange(msgspec.Struct, frozen=True):
    """Is the newest change of a setting, and the value `before` it. A later one has a higher
    `place`.
    """

    place: int
    from_round: int
    before: Any


def last_changes(settings: dict[str, Any], changes: Iterable[Change]) -> dict[str, LastChange]:
    """Returns the newest change of each setting, by the dotted path that it was recorded under.

    The newest is that of the latest round, as in `settings_after`.
    """
    found: dict[str, LastChange] = {}
    for place, change in enumerate(sorted(changes, key=lambda change: change.from_round)):
        for path in change.changes:
            found[path] = LastChange(place, change.from_round, value_at(path, settings))
        settings = apply_changes(settings, change.changes)
    return found


def changed_last(path: str, last: Mapping[str, LastChange]) -> dict[str, LastChange]:
    """Returns what the newest change of a setting changed of it, by path.

    Of a table that may be some values; of a value it may be the whole table that it is in. It is
    empty where nothing changed.
    """
    touching = {
        name: change
        for name, change in last.items()
        if is_at_or_below(name, path) or is_at_or_below(path, name)
    }
    newest = max((change.place for change in touching.values()), default=None)
    return {name: change for name, change in touching.items() if change.place == newest}


def leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the values of a table, each with its path; anything else as it is."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(f"{path}.{key}", inner)
    else:
        yield path, value

"""Settings as plain JSON: what differs between two of them, and putting a difference in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted path: (old, new)} of what differs; None where a side has nothing.

    A table whose `kind` differs is one entry: its keys mean other things.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping) and _same(before, after):
            found.update({f"{key}.{path}": pair for path, pair in diff(before, after).items()})
        else:
            found[key] = (before, after)
    return found


def apply_changes(
    settings: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]]
) -> dict[str, Any]:
    """Settings with the new value of each dotted path in place; the ones given stay as they are."""
    changed = dict(settings)
    for path, (_, new) in changes.items():
        *parents, name = path.split(".")
        table = changed
        for key in parents:
            table[key] = dict(table.get(key) or {})
            table = table[key]
        table[name] = new
    return changed


def _same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return bool(before.get("kind") == after.get("kind"))

"""Finds the files and directories that changed settings name, and says which are not there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from halos_backend.config.load import PATH_KEYS, PROGRAM_KEYS, resolve_path, resolve_program
from halos_backend.config.wording import Problem
from halos_backend.settings_json import is_at_or_below, value_at

REFERENCE_WORDS = frozenset({"initial", "previous"})


def resolve_named_files(
    settings: dict[str, Any], named: Collection[str], directory: Path | None
) -> tuple[dict[str, str], list[Problem]]:
    """Make the paths among the `named` settings absolute, in place.

    Returns those that were relative to `directory`, by dotted path, and what is wrong with the
    others. Without `directory` a path has to be absolute. `org/name` may be a hub name and passes.
    """
    made_absolute, problems = {}, []
    for key in (*PATH_KEYS, *PROGRAM_KEYS):
        parent, _, name = key.rpartition(".")
        table = value_at(parent, settings)
        value = table.get(name) if isinstance(table, dict) else None
        is_named = any(is_at_or_below(key, other) for other in named)
        if not is_named or not isinstance(value, str) or value in ("", *REFERENCE_WORDS):
            continue
        resolve = resolve_program if key in PROGRAM_KEYS else resolve_path
        path = value if directory is None else resolve(value, (directory,))
        if reason := _why_no_file(path):
            problems.append((key, reason))
        elif path != value:
            made_absolute[key] = table[name] = path
    return made_absolute, problems


def _why_no_file(value: str) -> str | None:
    file = value.rpartition(":")[0] if ".py:" in value else value
    path = Path(file)
    if path.is_absolute():
        return None if path.exists() else f"there is no {path}"
    is_name = file == value and value.count("/") <= 1 and not value.startswith((".", "~"))
    return None if is_name else f"there is no {value} here: write an absolute path"

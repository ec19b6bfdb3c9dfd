"""Answers the shell's Tab key: it completes runs, rounds, stages, settings, presets, themes.

Each function is called anew at every press, so none imports pydantic: what the schema says is kept
in the cache, and is read again when the schema changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

Found = list[tuple[str, str]]
"""These are the texts that fit, each with its help."""

FILES, FOLDERS = ":files", ":folders"
"""This is the help of a name that the shell completes by itself; see `shells`."""


def files(incomplete: str) -> Found:
    return [(incomplete, FILES)]


def folders(incomplete: str) -> Found:
    return [(incomplete, FOLDERS)]


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes names of runs."""
    from halos_backend.store.run_dir import run_names

    taken = ctx.params.get("runs") or ()
    return [
        name for name in run_names(_root(ctx)) if name.startswith(incomplete) and name not in taken
    ]


def rounds(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes the rounds that the run has begun."""
    if (state := _state(ctx)) is None:
        return []
    return _fitting([round.round for round in state.rounds], incomplete)


def forkable_rounds(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes the rounds whose checkpoint is still there."""
    state = _state(ctx)
    return [] if state is None else _fitting([round for round, _ in state.checkpoints], incomplete)


def coming_rounds(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes the first rounds that settings can change for."""
    if (state := _state(ctx)) is None:
        return []
    first = state.round_at_hand
    return _fitting(range(first, max(first, state.num_rounds + 1) + 1), incomplete)


def stages(incomplete: str) -> list[str]:
    from halos_backend.events import STAGES

    return [stage for stage in STAGES if stage.startswith(incomplete)]


def losses(incomplete: str) -> Found:
    """Completes losses, each with what it is."""
    return _values_of("train.loss.kind", incomplete)


def presets(incomplete: str) -> list[str]:
    from halos_backend.config.presets import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def themes(incomplete: str) -> list[str]:
    from halos_tui.theme import theme_files

    return [name for name in sorted(theme_files()) if name.startswith(incomplete)]


def settings(incomplete: str) -> Found:
    """Completes `KEY=`, or `KEY=VALUE` where a key takes few values."""
    return list(_assignments(incomplete, {}))


def settings_of_run(ctx: typer.Context, incomplete: str) -> Found:
    """Completes settings like `settings`, with the values that hold in the run."""
    from halos_backend.settings_json import changed_last, last_changes

    if (state := _state(ctx)) is None:
        return settings(incomplete)
    now = state.settings_of(state.num_rounds + 1)
    key, equals, _ = incomplete.partition("=")
    changed = changed_last(key, last_changes(state.settings, state.changes)) if equals else {}
    back = [
        (f"{key}=before", f"as before round {change.from_round}")
        for change in [*changed.values()][:1]
        if f"{key}=before".startswith(incomplete)
    ]
    return [*_assignments(incomplete, now), *back]


def _assignments(incomplete: str, now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields assignments; the value that a run has `now` is the help, and is offered where a key
    takes any.
    """
    from halos_tui.settings.index import NAME, read_index

    key, equals, _ = incomplete.partition("=")
    for entry in read_index():
        for path in _named(entry.path, NAME, now, entry.names):
            if _is_of_other_kind(now, path):
                continue
            if equals and path == key:
                held = _value_at(now, path)
                values = entry.values or ([held] if held else [])
                for value in values:
                    help = "as it is now" if value == held else entry.value_help.get(value, "")
                    if f"{path}={value}".startswith(incomplete):
                        yield f"{path}={value}", help
                if entry.default and f"{path}=default".startswith(incomplete):
                    yield f"{path}=default", f"which is {entry.default}"
            elif not equals and path.startswith(key):
                held = _value_at(now, path)
                yield f"{path}=", f"{entry.help} (now {held})" if held else entry.help


def _named(path: str, mark: str, now: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    """Yields the paths of a table whose name the person gives, with the names that there are."""
    before, found, after = path.partition(f".{mark}.")
    if not found:
        yield path
        return
    held: Any = now
    for part in before.split("."):
        held = held.get(part) if isinstance(held, Mapping) else None
    for name in held if isinstance(held, Mapping) else known:
        yield f"{before}.{name}.{after}"


def _is_of_other_kind(settings: Mapping[str, Any], path: str) -> bool:
    """Says whether a table on the way has a kind that lacks this setting."""
    value: Any = settings
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return False
        if "kind" in value and part not in value:
            return True
        value = value.get(part)
    return False


def _value_at(settings: Mapping[str, Any], path: str) -> str:
    """Writes a value as a person types it; "" for an unset value, a list or a table."""
    value: Any = settings
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:.15g}"
        case str() if value and not any(letter.isspace() for letter in value):
            return value
        case _:
            return ""


def _values_of(path: str, incomplete: str) -> Found:
    from halos_tui.settings.index import read_index

    return [
        (value, entry.value_help.get(value, ""))
        for entry in read_index()
        if entry.path == path
        for value in entry.values
        if value.startswith(incomplete)
    ]


def _fitting(numbers: Any, incomplete: str) -> list[str]:
    return [str(number) for number in numbers if str(number).startswith(incomplete)]


def _root(ctx: typer.Context) -> Path:
    """Returns --runs-dir, wherever it stands on the line."""
    here = ctx.params.get("runs_dir")
    before = ctx.parent.params.get("runs_dir") if ctx.parent else None
    if given := here or before:
        return Path(given)
    from halos_backend.store.run_dir import default_runs_root

    return default_runs_root()


def _state(ctx: typer.Context) -> Any:
    """Returns the state of the named run; None where no such run can be read."""
    from halos_backend.errors import HalosError
    from halos_backend.store.registry import load_state
    from halos_backend.store.run_dir import find_run

    with contextlib.suppress(HalosError, OSError):
        return load_state(find_run(_root(ctx), ctx.params.get("run") or ""))
    return None

"""Changes settings between rounds: what may change, to what, and what follows from it.

It also finds the files and directories that changed settings name, and says which are missing;
everything else here is pure. `consequences` words what follows. The supervisor knows which rounds
have begun and when a change takes effect.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halos_backend.config.conflicts import find_conflicts
from halos_backend.config.consequences import find_consequences
from halos_backend.config.load import (
    PATH_KEYS,
    PROGRAM_KEYS,
    apply_overrides,
    overridden_keys,
    resolve,
    resolve_path,
    resolve_program,
)
from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import table_at
from halos_backend.config.toml_text import format_value
from halos_backend.config.wording import Problem, find_problems, show
from halos_backend.errors import SettingsError
from halos_backend.settings_json import Changes, apply_changes, diff, is_at_or_below, value_at

FIXED: dict[str, str] = {
    "policy": "it is what the run trains",
    "prompts": "they were read and put in order when the run was created",
    "loop.seed": "the order of the prompts and every sample follow from it",
}
"""Lists the tables and settings that hold for a run's life, and why."""

REFERENCE_WORDS = frozenset({"initial", "previous"})


@dataclass(frozen=True)
class Change:
    """Is a valid change: the whole new settings, what differs, and what follows from it.

    `overrides` are those given, with absolute paths where they name files: a supervisor, whose
    working directory is another one, is asked for these.
    """

    settings: dict[str, Any]
    changes: Changes
    consequences: tuple[str, ...]
    overrides: tuple[str, ...]


def change_settings(
    current: Mapping[str, Any], overrides: Sequence[str], *, directory: Path | None = None
) -> Change:
    """Applies `KEY=VALUE` overrides, as `--set` takes them, to a run's resolved settings.

    Paths are looked for in `directory`; without one they have to be absolute. Raises SettingsError
    with everything that is wrong: values, unknown keys, fixed settings, settings that do not fit
    together, files that do not exist, and overrides that change nothing.
    """
    named = overridden_keys(overrides)
    merged, problems = apply_overrides(RunSettings, forget_defaults(current, named), overrides)
    made_absolute, missing = resolve_named_files(
        merged, {name for name in named if not is_fixed(name)}, directory
    )
    _refuse(
        [] if overrides else [("", "name a setting: KEY=VALUE, for example train.lr=1e-6")],
        [(key, _why_fixed(key)) for key in sorted(named) if is_fixed(key)],
        problems,
        find_problems(RunSettings, merged),
        missing,
    )
    settings = resolve(RunSettings.model_validate(merged))
    before, now = RunSettings.model_validate(current), settings.model_dump(mode="json")
    changes = diff(before.model_dump(mode="json"), now)
    _refuse(
        [(path, _why_fixed(path)) for path in changes if is_fixed(path)],
        _removed_guards(changes),
        find_conflicts(settings),
        _other_kind_of_run(before, settings),
        _without_effect(named, changes, now),
    )
    absolute = [f"{key}={format_value(path)}" for key, path in made_absolute.items()]
    return Change(now, changes, find_consequences(before, settings), (*overrides, *absolute))


def check_settings(settings: Mapping[str, Any]) -> list[Problem]:
    """Returns everything wrong with settings that were put together from several changes."""
    problems = find_problems(RunSettings, settings)
    return problems or find_conflicts(RunSettings.model_validate(settings))


def is_fixed(path: str) -> bool:
    """Says whether a dotted path names a setting that holds for the run's life."""
    return any(is_at_or_below(path, fixed) for fixed in FIXED)


def refuse_for_begun_round(
    changes: Mapping[str, Any], *, done: Collection[str], round: int
) -> list[Problem]:
    """Returns what of `changes` cannot hold for `round`, which has begun and whose stages `done`
    are done.

    `changes` are those of a `Change`: {dotted path: (before, now)}.
    """
    later = f"from the next round on: --from-round {round + 1}"
    found = []
    for path, pair in changes.items():
        if reason := _why_too_late(path, pair, done):
            found.append((path, f"round {round} has {reason}; this can change {later}"))
    return found


def _why_too_late(path: str, pair: tuple[Any, Any], done: Collection[str]) -> str | None:
    stage = path.partition(".")[0]
    if path == "loop.prompts_per_round":
        return "taken its prompts already"
    if "sample" in done and _changes_sampling_prefix(path, pair):
        return "sampled its completions already, and csft's control text goes before them"
    if "sample" in done and _takes_sampler_logps_now(path, pair):
        return "sampled its completions already, without the log-probabilities that this takes"
    if stage in done:
        return f"finished its {stage} stage already"
    return None


def _takes_sampler_logps_now(path: str, pair: tuple[Any, Any]) -> bool:
    """Says whether the loss begins to take what only a sampler that was asked for it keeps."""
    before, now = pair
    if path == "train.loss":
        before, now = (value_at("sampler_ratio_cap", side) for side in pair)
    elif path != "train.loss.sampler_ratio_cap":
        return False
    return before is None and now is not None


def _changes_sampling_prefix(path: str, pair: tuple[Any, Any]) -> bool:
    """Says whether the control text before good completions changes; only csft samples
    behind one.
    """
    if path == "train.loss":
        kinds = [side.get("kind") if isinstance(side, Mapping) else None for side in pair]
        return "csft" in kinds
    return path == "train.loss.chosen_prefix"


def _why_fixed(path: str) -> str:
    fixed = next(name for name in FIXED if is_at_or_below(path, name))
    return (
        f"fixed for the run's life, since {FIXED[fixed]}: start a new run, or one from a round of"
        " this one with halos-tui fork"
    )


def _refuse(*found: Sequence[Problem]) -> None:
    """Raises all problems, the first of each path."""
    problems: dict[str, str] = {}
    for path, reason in (problem for part in found for problem in part):
        problems.setdefault(path, reason)
    if problems:
        raise SettingsError("nothing was changed", list(problems.items()))


def _removed_guards(changes: Changes) -> list[Problem]:
    """Returns a problem for each guard that is taken out: a recorded change is a new value, never
    an absence.
    """
    return [
        (path, f"cannot be taken out of a run: write {path}.action=off")
        for path, (_, value) in changes.items()
        if value is None and path.startswith("guards.") and path.count(".") == 1
    ]


def _other_kind_of_run(before: RunSettings, now: RunSettings) -> list[Problem]:
    kinds = before.train.loss.kind, now.train.loss.kind
    if (kinds[0] == "bradley_terry") == (kinds[1] == "bradley_terry"):
        return []
    trained = ["a reward model" if kind == "bradley_terry" else "a policy" for kind in kinds]
    return [
        (
            "train.loss.kind",
            f"the run trains {trained[0]}, and '{kinds[1]}' would train {trained[1]}: start a new"
            " run",
        )
    ]


def _without_effect(
    named: Collection[str], changes: Changes, now: Mapping[str, Any]
) -> list[Problem]:
    return [
        (key, f"is {_shown(key, now)} already")
        for key in sorted(named)
        if not any(is_at_or_below(path, key) or is_at_or_below(key, path) for path in changes)
    ]


def _shown(path: str, settings: Any) -> str:
    value = value_at(path, settings)
    if isinstance(value, Mapping | list):
        return "that"
    return "unset" if value is None else show(value)


def forget_defaults(current: Mapping[str, Any], named: Collection[str]) -> Mapping[str, Any]:
    """Takes out of each table whose kind is switched what is its old kind's default.

    Resolved settings name every default, and dpo's beta is none for simpo.
    """
    for path in (key.removesuffix(".kind") for key in named if key.endswith(".kind")):
        table, values = table_at(RunSettings, path.split("."), current), value_at(path, current)
        if table is not None and isinstance(values, Mapping):
            fields = table.model_fields
            own = {k: v for k, v in values.items() if k not in fields or v != fields[k].default}
            current = apply_changes(current, {path: (values, own)})
    return current


def resolve_named_files(
    settings: dict[str, Any], named: Collection[str], directory: Path | None
) -> tuple[dict[str, str], list[Problem]]:
    """Makes the paths among the `named` settings absolute, in place.

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

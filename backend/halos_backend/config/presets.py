"""Writes the run files of `halos-tui init`: a short one, and one with every setting there is.

The comments of the long one are the schema's own docstrings; what is not set is there as a comment.
The presets are settings known from elsewhere, one TOML file each under `presets/`. `own_inputs`
reads what a person brings.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from halos_backend.config.guards import with_default_guards
from halos_backend.config.load import PLACEHOLDER
from halos_backend.config.losses import FEEDBACK_OF_LOSS, LOSSES_WITH_REFERENCE
from halos_backend.config.own_inputs import OwnInputs, first_sizes
from halos_backend.config.schema import FunctionJudge, RunSettings, TrainSettings
from halos_backend.config.shape import (
    any_of,
    describe,
    entry_table,
    held_table,
    kinds_of,
    tables_of,
)
from halos_backend.config.table import Table
from halos_backend.config.toml_text import format_value
from halos_backend.config.wording import unknown_choice
from halos_backend.errors import UsageError

__all__ = ["init_file", "minimal_file", "preset_names", "preset_settings"]

WIDTH = 96
NO_INPUTS = OwnInputs()
INTRODUCTION = (
    "# A run file of halos-tui. Check it with `halos-tui run FILE --dry-run`, start it with",
    "# `halos-tui run FILE`. Lines of `#` and a space explain; a `#` right before a name marks a",
    "# setting that is not in force.",
)
FUNCTION_JUDGE = {"kind": "function", "function": "judge.py:reward"}
GUARD_EXAMPLE = {"metric": "kl_initial", "above": 10.0, "action": "pause"}
BETA_FIELDS = ("beta", "tau", "delta")
"""Names what the BETA of `init LOSS BETA LR` sets: the first of these that the loss has."""

FITTING: dict[str, dict[str, Any]] = {
    # The learning rates of the papers' language model runs, where they are far from DPO's.
    "simpo": {"lr": 1e-6},
    "grpo": {"lr": 1e-6, "batch_size": 64},
    "sft": {"lr": 2e-5},
    "csft": {"lr": 2e-5},
    "bradley_terry": {"lr": 1e-5},
}
"""Holds values of [train] for a loss to begin with, where the schema's defaults do not fit it."""

PRESETS_DIR = Path(__file__).parent / "presets"


def init_file(
    loss: str,
    beta: float | None = None,
    lr: float | None = None,
    preset: str | None = None,
    inputs: OwnInputs = NO_INPUTS,
) -> str:
    """Returns a run file for `loss` with every setting, and the values of a preset where one is
    named.

    `beta` sets the loss's beta (ipo's tau, slic's delta), `lr` the peak learning rate. Raises
    UsageError for an unknown loss or preset, a preset of another loss, and a beta without a place.
    """
    values = _values(loss, beta, lr, preset, inputs)
    values["guards"] = with_default_guards(values.get("guards"))
    notes = [] if preset is None else ["", preset_notes(preset)]
    lines = [*INTRODUCTION, *notes]
    lines.extend(_table(RunSettings, values, path=(), loss=loss))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def minimal_file(
    loss: str,
    beta: float | None = None,
    lr: float | None = None,
    preset: str | None = None,
    inputs: OwnInputs = NO_INPUTS,
    *,
    is_cpu: bool = False,
) -> str:
    """Writes a file like `init_file`, with what a person changes and no more; the rest has its
    defaults.

    Without a preset the sizes are those of a first run, on a CPU a small one.
    """
    values = _values(loss, beta, lr, preset, inputs)
    notes = dict(inputs.notes)
    if preset is None:
        sizes = first_sizes(inputs, is_cpu=is_cpu)
        notes |= sizes.notes
        values = _of_first_run(loss, values, sizes.tables)
    about = [] if preset is None else ["", preset_notes(preset)]
    with_preset = "" if preset is None else f" --preset {preset}"
    lines = [
        "# A run file. Check it: halos-tui run FILE --dry-run. Start it: halos-tui run FILE.",
        "# What is not here has its default; all settings, each with its help:",
        f"# halos-tui init {loss}{with_preset} --full",
        *about,
    ]
    for table in RunSettings.model_fields:
        if values.get(table):
            lines += ["", f"[{table}]", *_short_lines(table, values[table], notes)]
    return "\n".join(lines) + "\n"


def _of_first_run(loss: str, values: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values with sizes, and with what a person changes of [train] where it has
    defaults.
    """
    defaults = {name: TrainSettings.model_fields[name].default for name in ("lr", "batch_size")}
    train = {
        "loss": {"kind": loss, **_default_beta(loss), **values["train"]["loss"]},
        **{name: values["train"].get(name, default) for name, default in defaults.items()},
    }
    return {**values, **sizes, "train": {**train, **sizes.get("train", {})}}


def _short_lines(table: str, values: Mapping[str, Any], notes: Mapping[str, str]) -> Iterator[str]:
    """Yields a table's settings, those inside it under dotted names; a remark where there
    is one.
    """
    for key, value in _flat(values):
        line = f"{key} = {format_value(value)}"
        note = notes.get(f"{table}.{key}", "")
        if isinstance(value, str) and PLACEHOLDER in value:
            note = "name your own here"
        yield f"{line:<36} # {note}" if note else line


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", held) for inner, held in _flat(value))
        else:
            yield name, value


def _values(
    loss: str, beta: float | None, lr: float | None, preset: str | None, inputs: OwnInputs
) -> dict[str, Any]:
    """Returns what is not as the schema has it."""
    values = _start_values(loss) if preset is None else _preset_values(preset, loss)
    for name in ("policy", "prompts"):
        values[name] = {**values[name], **inputs.tables.get(name, {})}
    if judge := inputs.tables.get("label", {}).get("judge"):
        values["label"] = {**values["label"], "judge": judge}
    if beta is not None:
        values["train"]["loss"][_beta_field(loss)] = beta
    if lr is not None:
        values["train"]["lr"] = lr
    return values


def _start_values(loss: str) -> dict[str, Any]:
    _check_loss(loss)
    return {
        "policy": {"path": f"{PLACEHOLDER}POLICY"},
        "prompts": {"path": f"{PLACEHOLDER}PROMPTS.jsonl"},
        "label": {
            "judge": {"kind": "reward_model", "path": f"{PLACEHOLDER}REWARD_MODEL"},
            "feedback": {"kind": FEEDBACK_OF_LOSS[loss][0]},
        },
        "train": {"loss": {"kind": loss}, **FITTING.get(loss, {})},
    }


def _preset_values(preset: str, loss: str) -> dict[str, Any]:
    values = preset_settings(preset)
    kind = values["train"]["loss"]["kind"]
    if kind != loss:
        raise UsageError(f"the preset '{preset}' is for {kind}: halos-tui init {kind}")
    start = _start_values(loss)
    for table in ("policy", "prompts"):
        values[table] = start[table] | values.get(table, {})
    values["label"]["judge"] = start["label"]["judge"] | values["label"]["judge"]
    return values


def _check_loss(loss: str) -> None:
    losses = list(kinds_of(TrainSettings.model_fields["loss"]))
    if loss not in losses:
        raise UsageError(f"LOSS {unknown_choice(loss, losses)}")


def _default_beta(loss: str) -> dict[str, float]:
    """Returns the loss's beta by its name; empty where it has none."""
    fields = kinds_of(TrainSettings.model_fields["loss"])[loss].model_fields
    return {name: fields[name].default for name in BETA_FIELDS if name in fields}


def _beta_field(loss: str) -> str:
    field = next(iter(_default_beta(loss)), None)
    if field is None:
        raise UsageError(
            f"{loss} has no beta: leave BETA out, and set the learning rate by train.lr in the file"
        )
    return field


def _table(
    table: type[Table], values: Mapping[str, Any], *, path: tuple[str, ...], loss: str
) -> Iterator[str]:
    """Yields a table's lines: its own keys first, then the tables inside it."""
    fields = {
        name: field
        for name, field in table.model_fields.items()
        if not _is_without_effect((*path, name), loss)
    }
    inner = {
        name: field
        for name, field in fields.items()
        if tables_of(field) or entry_table(field) is not None
    }
    if path and len(inner) < len(fields):
        yield from (*_comment(table.__doc__), f"[{'.'.join(path)}]")
    for name, field in fields.items():
        if name not in inner:
            yield from _entry(name, field, values)
    for name, field in inner.items():
        yield ""
        yield from _inner_table(field, values.get(name), path=(*path, name), loss=loss)


def _inner_table(
    field: FieldInfo, value: Mapping[str, Any] | None, *, path: tuple[str, ...], loss: str
) -> Iterator[str]:
    if field.default is None and value is None:
        yield from _switched_off(_table(tables_of(field)[0], {}, path=path, loss=loss))
        return
    value = value or {}
    if (entries := entry_table(field)) is not None:
        yield from _comment(field.description)
        yield from _named_tables(entries, value, path=path, loss=loss)
        return
    table = held_table(field, value)
    assert table is not None, f"{path} has no kind"
    if kinds := kinds_of(field):
        yield from _comment(f"{field.description} Kinds: {any_of(list(kinds))}.")
    yield from _table(table, value, path=path, loss=loss)
    if path == ("label", "judge") and value["kind"] != "function":
        yield from ("", "# Or instead:")
        yield from _switched_off(_table(FunctionJudge, FUNCTION_JUDGE, path=path, loss=loss))


def _named_tables(
    table: type[Table], tables: Mapping[str, Any], *, path: tuple[str, ...], loss: str
) -> Iterator[str]:
    """Yields the first with all its keys and their help, the others with the keys that are set."""
    first, *others = tables
    yield ""
    yield from _table(table, tables[first], path=(*path, first), loss=loss)
    for name in others:
        yield from ("", *_short_table((*path, name), tables[name]))
    yield from ("", "# Or one of your own:")
    yield from _switched_off(_short_table((*path, "kl"), GUARD_EXAMPLE))


def _short_table(path: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{'.'.join(path)}]"
    yield from (f"{name} = {format_value(value)}" for name, value in values.items())


def _switched_off(lines: Iterator[str]) -> Iterator[str]:
    """Yields a table that is not in force; taking the first `#` of its settings away switches it
    on.
    """
    for line in lines:
        yield line if line.startswith("#") or not line else f"#{line}"


def _entry(name: str, field: FieldInfo, values: Mapping[str, Any]) -> Iterator[str]:
    if name == "kind":
        yield f'kind = "{values["kind"]}"'
        return
    yield from _comment(field.description)
    value = values.get(name, field.default)
    if value is None:
        yield f"#{name} =    # not set; takes {describe(name, field)}"
    else:
        assert value is not PydanticUndefined, f"{name} has no value to begin with"
        yield f"{name} = {format_value(value)}"


def _is_without_effect(path: tuple[str, ...], loss: str) -> bool:
    match path:
        case ("train", "reference"):
            return loss not in LOSSES_WITH_REFERENCE
        case ("train", "lora"):
            return loss == "bradley_terry"
        case _:
            return False


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join((text or "").split()), WIDTH)]


def preset_names() -> tuple[str, ...]:
    """Returns every preset, sorted."""
    return tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.toml")))


def preset_settings(name: str) -> dict[str, Any]:
    """Returns a preset's tables; what it leaves to the person is not in them. Raises UsageError."""
    return tomllib.loads(_preset_text(name))


def preset_notes(name: str) -> str:
    """Returns the comment a preset begins with: where its values are from. Raises UsageError."""
    lines = _preset_text(name).splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def _preset_text(name: str) -> str:
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
        raise UsageError(f"no preset '{name}'; {meant}")
    return (PRESETS_DIR / f"{name}.toml").read_text(encoding="utf-8")

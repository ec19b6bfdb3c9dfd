"""Makes settings into rows of a form, from the schema, with nothing listed by hand. It is pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import (
    choices_of,
    describe,
    entry_table,
    held_table,
    kinds_of,
    tables_of,
    value_types,
)
from halos_backend.config.table import Table
from halos_backend.config.toml_text import format_value, parse_value
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from halos_tui.formatting import STEERING

UNSET = "unset"
ON, OFF = "on", "off"
"""A row says one of these of a table that may be absent."""
SECRET = re.compile(r"(^|_)(api_key|auth|credential|key|password|secret|token)$")
"""A setting with such a name never shows its text."""
HIDDEN = "(hidden)"
OFTEN = (
    "train.lr",
    "train.loss.beta",
    "train.loss.tau",
    "loop.num_rounds",
    "loop.prompts_per_round",
    "sample.group_size",
    "sample.temperature",
    "loop.num_prompts",
)
"""People change these most, in this order; a loss has beta or tau, or neither."""
INPUTS = (
    "policy.path",
    "prompts.path",
    "label.judge.path",
    "label.judge.function",
    "label.judge.model",
    "label.judge.base_url",
)
"""A new run needs these, and no preset knows them."""
LAST_RANK = 4
"""A setting fits a search worst where only its help or its value does."""


@dataclass(frozen=True)
class Row:
    """This is one setting. `value` is its text; without one it is unset, or missing if
    `is_required`.

    `choices` are all it takes, where these are few. `fixed` says why it cannot be changed.
    A row `makes_entry` whose text names a new table below its path. One that `is_often` changed
    stands before all tables, besides its place in its own.
    """

    path: str
    help: str
    takes: str
    value: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = False
    is_table: bool = False
    makes_entry: bool = False
    is_hidden: bool = False
    is_often: bool = False
    fixed: str = ""

    @property
    def table(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def group(self) -> str:
        """Returns what it is listed under; a row for new tables comes behind those there are."""
        return self.path if self.makes_entry else self.table

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def settings_rows(settings: Mapping[str, Any]) -> list[Row]:
    """Returns a row for each setting, in the order of the schema; kinds as in `settings`."""
    return list(_table_rows(RunSettings, settings, ()))


def table_headings() -> dict[str, str]:
    """Returns what each table is about, by its path; the fields say it for what is below a
    union.
    """
    return dict(_headings(RunSettings, ()))


def find_rows(rows: Sequence[Row], text: str) -> list[Row]:
    """Returns the rows that have all words of a search, table by table, the best ones first.

    The best are named so; then come those whose path has the words, and those in whose help words
    begin so or whose value has them.
    """
    words = text.casefold().split()
    ranks = {row: max((_rank(row, word) for word in words), default=0) for row in rows}
    found = {row: rank for row, rank in ranks.items() if rank <= LAST_RANK}
    order: dict[str, tuple[int, int]] = {}
    for place, (row, rank) in enumerate(found.items()):
        best, first = order.get(row.group, (rank, place))
        order[row.group] = min(best, rank), first
    return sorted(found, key=lambda row: (*order[row.group], found[row]))


def _rank(row: Row, word: str) -> int:
    name = row.name.casefold()
    if word in name:
        return 0 if word == name else 1 if name.startswith(word) else 2
    if word in row.path.casefold():
        return 3
    begins = any(part.startswith(word) for part in re.split(r"\W+", row.help.casefold()))
    return LAST_RANK if begins or word in row.value.casefold() else LAST_RANK + 1


def text_of(value: object) -> str:
    """Writes a value as a person types it after the equals sign; "" for none."""
    if value is None:
        return ""
    if isinstance(value, str):
        is_plain = value == value.strip() and parse_value(value) == value and value != ""
        return value if is_plain and not STEERING.search(value) else format_value(value)
    return format_value(_without_nulls(value))


def shown_text(row: Row, value: object) -> str:
    """Writes another value of a setting as its row would show it."""
    if row.is_table:
        return OFF if value is None else ON
    return text_of(_with_secrets_hidden({row.name: value})[row.name]) or UNSET


def _table_rows(table: type[Table], values: object, path: tuple[str, ...]) -> Iterator[Row]:
    """Yields values first, then the tables inside."""
    held = values if isinstance(values, Mapping) else {}
    inner = []
    for name, about in table.model_fields.items():
        if tables_of(about) or entry_table(about) is not None:
            inner.append((name, about))
        elif name != "kind":
            yield _value_row((*path, name), about, held)
    for name, about in inner:
        yield from _inner_rows((*path, name), about, held.get(name, _default_of(about)))


def _inner_rows(path: tuple[str, ...], about: FieldInfo, value: object) -> Iterator[Row]:
    if (entries := entry_table(about)) is not None:
        for name, entry in value.items() if isinstance(value, Mapping) else ():
            yield from _table_rows(entries, entry, (*path, str(name)))
        yield _row(path, about, takes="a name for a new one", makes_entry=True)
        return
    kinds = kinds_of(about)
    table = held_table(about, value)
    if kinds:
        kind = value.get("kind") if isinstance(value, Mapping) else None
        yield _row(
            (*path, "kind"),
            about,
            value=text_of(kind),
            choices=tuple(kinds),
            takes=f"one of {', '.join(kinds)}",
            is_required=True,
        )
    elif about.default is None:
        is_on = isinstance(value, Mapping)
        yield _row(
            path,
            about,
            value=ON if is_on else OFF,
            default=OFF,
            choices=(OFF, ON),
            takes=f"{ON} or {OFF}",
            is_table=True,
        )
        table = table if is_on else None
    if table is not None:
        yield from _table_rows(table, value, path)


def _value_row(path: tuple[str, ...], about: FieldInfo, held: Mapping[str, Any]) -> Row:
    name = path[-1]
    default = _default_of(about)
    value = held.get(name, default)
    types = value_types(about)
    words = choices_of(about)
    choices = words if types == {str} else ()
    if default is not None and (types == {bool} or (types == {bool, str} and words)):
        choices = (*words, "false", "true")
    shown = _with_secrets_hidden({name: value})[name]
    return _row(
        path,
        about,
        value=text_of(shown),
        default=text_of(default),
        choices=choices,
        takes=describe(name, about) or "a table",
        is_required=about.default is PydanticUndefined,
        is_hidden=shown != value,
    )


def _row(path: tuple[str, ...], about: FieldInfo, *, takes: str, **more: Any) -> Row:
    help = " ".join((about.description or "").split())
    return Row(path=".".join(path), help=help, takes=takes, **more)


def _default_of(about: FieldInfo) -> object:
    """Returns a default as plain JSON; None where there is none."""
    default = about.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return None
    return _plain(default)


def _plain(value: object) -> object:
    if isinstance(value, Table):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return value


def _with_secrets_hidden(values: Mapping[str, Any]) -> dict[str, Any]:
    """Hides texts under names that sound like secrets; these are not for the screen."""
    return {
        key: HIDDEN
        if isinstance(value, str) and SECRET.search(key)
        else _with_secrets_hidden(value)
        if isinstance(value, Mapping)
        else value
        for key, value in values.items()
    }


def _headings(table: type[Table], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name, about in table.model_fields.items():
        tables = [*tables_of(about)]
        if tables or entry_table(about) is not None:
            here = (*path, name)
            yield ".".join(here), " ".join((about.description or "").split())
            if not kinds_of(about):
                for inner in tables:
                    yield from _headings(inner, here)

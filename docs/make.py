"""Writes `configuration.md` beside itself, from the schema of run files: `make docs`.

The text of each setting is its help, the docstring under the field. What is not the schema's (how a
run file is read, what holds for a run's life) is written here.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from halos_backend.config.changes import FIXED
from halos_backend.config.guards import DEFAULT_GUARDS
from halos_backend.config.losses import FEEDBACK_OF_LOSS
from halos_backend.config.schema import RunSettings
from halos_backend.config.shape import describe, entry_table, kind_of, tables_of
from halos_backend.config.table import Table
from halos_backend.config.toml_text import format_value
from pydantic.fields import FieldInfo

TARGET = Path(__file__).parent / "configuration.md"
WIDTH = 100
INTRODUCTION = """\
# Configuration

<!-- `make docs` writes this page; its texts are the help texts of backend/halos_backend/config. -->

A run file is a [TOML](https://toml.io) file. `halos-tui init` writes a short one, `halos-tui init
--full` one with every setting and its help. This page lists every setting, with what it takes, its
default and its help. All settings of a run, defaults included, are in `config.resolved.json` in the
run's directory.

- `halos-tui run FILE --dry-run` checks the file and every input that it names, and `halos-tui
  doctor FILE` adds what this machine has. Both name every problem at once. An unknown key is
  refused, with the nearest known name.
- `--set KEY=VALUE` overrides a setting, for example `--set train.lr=1e-6`. The value is a TOML
  value; other text needs no quotes. When `--set` changes a `kind`, the settings that both kinds
  have stay, and the others of the old kind are dropped.
- `--set KEY=default` gives a setting its default again, and turns off what may be absent
  (`train.lora=default`). The program says which value that is. An empty value is an error. The text
  "default" itself is written in quotes (`'default'`).
- Relative paths in the file start from the file's own folder. Paths in `--set` are looked for in
  the working directory first.
- A setting that cannot take effect is an error. So are settings that do not fit together; the
  message says what to write instead.
"""


def configuration() -> str:
    """The whole page."""
    lines = [*INTRODUCTION.splitlines(), "", *_fixed(), "", *_tables(RunSettings, (), seen=set())]
    return "\n".join(lines).rstrip("\n") + "\n"


def _fixed() -> Iterator[str]:
    yield "## What holds for a run's life"
    yield ""
    yield from _wrapped(
        "`halos-tui set` changes any setting between rounds but these. A new run can have others. A"
        " fork of this run can have another seed and other prompts, but not another policy."
    )
    yield ""
    for name, reason in FIXED.items():
        yield from _wrapped(f"- `{name}`: {reason}.", indent="  ")


def _tables(table: type[Table], path: tuple[str, ...], *, seen: set[str]) -> Iterator[str]:
    """The tables inside `table`, each once: that of humanline is in several losses."""
    for name, field in table.model_fields.items():
        here = (*path, name)
        if (entries := entry_table(field)) is not None:
            yield from _section((*here, "NAME"), entries, field.description, seen=seen)
            yield from _default_guards() if name == "guards" else ()
        for inner in tables_of(field):
            yield from _section(here, inner, inner.__doc__, seen=seen)


def _section(
    path: tuple[str, ...], table: type[Table], about: str | None, *, seen: set[str]
) -> Iterator[str]:
    """A table's heading, its settings, and after them the tables inside it."""
    kind = kind_of(table)
    heading = f"`[{'.'.join(path)}]" + ("`" if kind is None else f' kind = "{kind}"`')
    if heading in seen:
        return
    seen.add(heading)
    yield from (f"## {heading}", "", *_wrapped(_joined(about)), "")
    if path == ("train", "loss"):
        kinds = " or ".join(f"`{name}`" for name in FEEDBACK_OF_LOSS[str(kind)])
        yield from (f"Learns from {kinds} feedback; see [losses](losses.md#{kind}).", "")
    settings = list(_settings(table, path))
    yield from (*settings, "") if settings else ()
    yield from _tables(table, path, seen=seen)


def _settings(table: type[Table], path: tuple[str, ...]) -> Iterator[str]:
    """A line of each value, and of each table that may be absent."""
    for name, field in table.model_fields.items():
        if name == "kind" or entry_table(field) is not None:
            continue
        if not tables_of(field):
            takes = _takes(name, field)
        elif field.is_required() or field.default is not None:
            continue
        else:
            takes = f"a table ([here](#{''.join((*path, name))})), absent by default"
        yield from _wrapped(f"- **`{name}`**: {takes}. {_joined(field.description)}", indent="  ")


def _default_guards() -> Iterator[str]:
    yield "These guards are on unless the run file says otherwise under the same names:"
    yield ""
    yield "```toml"
    for name, guard in DEFAULT_GUARDS.items():
        yield f"[guards.{name}]"
        values = guard.model_dump(exclude_unset=True)
        yield from (f"{key} = {format_value(value)}" for key, value in values.items())
    yield "```"
    yield ""


def _takes(name: str, field: FieldInfo) -> str:
    """`a number above 0, default 5e-06`."""
    words = describe(name, field)
    if field.is_required():
        return f"{words}, required"
    default = field.get_default()
    if default is None:
        return f"{words}, absent by default"
    return f"{words}, default `{format_value(default)}`"


def _joined(text: str | None) -> str:
    return " ".join((text or "").split())


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def main(arguments: list[str]) -> str | None:
    """Write the page, or with `--check` say whether it has to be written; returns a complaint."""
    page = configuration()
    if arguments != ["--check"]:
        TARGET.write_text(page, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != page:
        return f"docs/{TARGET.name} is not what the schema says: run make docs, and commit it"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

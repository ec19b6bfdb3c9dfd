"""Writes TOML, and words the errors of reading it; only what settings are made of."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from halos_backend.errors import UsageError

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
LONGEST_BYTES = 1 << 20
"""Limits a run file, which has some kilobytes; a file named by mistake may have gigabytes, or no
end.
"""
EXPONENT_ZEROS = re.compile(r"e([+-])0+(?=\d)")
"""Matches the zeros to take out: Python writes 5e-06 where a person writes 5e-6."""
POSITION = re.compile(r"^(?P<reason>.*) \(at (?P<place>.*)\)$")


def read_run_file(path: Path) -> str:
    """Returns the text of a run file, which may be a pipe. Raises UsageError."""
    try:
        return _read_limited(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(
            f"no run file {path}", fix=f"halos-tui init > {path.name} writes one to start from"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path}: line {line}: not UTF-8 text", fix="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the run file {path}: {error.strerror}") from error


def _read_limited(path: Path) -> bytes:
    """Reads a file or a pipe up to the limit; what never ends is no run file."""
    with path.open("rb") as file:
        content = file.read(LONGEST_BYTES + 1)
    if len(content) > LONGEST_BYTES:
        raise UsageError(f"{path} is too large for a run file ({LONGEST_BYTES} bytes at most)")
    return content


def parse_toml(text: str, *, source: str) -> dict[str, Any]:
    """Returns the tables of TOML text. Raises UsageError with the place of a syntax error."""
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOML's own, and Python's for numbers of 5,000 digits
        raise UsageError(_syntax_error(str(error), text, source)) from None
    except RecursionError:
        raise UsageError(f"{source}: lists or tables nested too deeply") from None


def parse_value(text: str) -> Any:
    """Reads one TOML value; returns the text itself where it is none."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def dump_toml(settings: BaseModel | Mapping[str, Any]) -> str:
    """Writes settings as a TOML document; what is None is left out, as TOML has no null."""
    table = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
    return "\n".join(_table_lines(table, ())).lstrip("\n") + "\n"


def format_value(value: object) -> str:
    """Returns one value as TOML writes it. Raises TypeError for what settings never hold."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return EXPONENT_ZEROS.sub(r"e\1", repr(value))
        case str():
            # JSON's escapes are TOML's, but for the delete character, which TOML wants escaped too.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(format_value(entry) for entry in value)}]"
        case Mapping():
            pairs = (f"{_key(key)} = {format_value(entry)}" for key, entry in value.items())
            return f"{{{', '.join(pairs)}}}"
        case _:
            raise TypeError(f"no TOML value: {type(value).__name__}")


def _table_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    values = {key: value for key, value in table.items() if value is not None}
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in values.items() if key not in tables}
    lines = [f"{_key(key)} = {format_value(value)}" for key, value in plain.items()]
    if path and (lines or not tables):
        lines = ["", f"[{'.'.join(path)}]", *lines]
    for key, value in tables.items():
        lines.extend(_table_lines(value, (*path, _key(key))))
    return lines


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else format_value(key)


def _syntax_error(message: str, text: str, source: str) -> str:
    """Words a syntax error: tomllib names line and column, and a person also wants to see
    the line.
    """
    found = POSITION.match(message)
    if found is None:
        return f"{source}: not TOML: {message}"
    place, reason = found["place"], found["reason"]
    lines = text.splitlines()
    if number := re.match(r"line (\d+)", place):
        index = int(number[1]) - 1
        shown = f": {lines[index].strip()[:80]!r}" if index < len(lines) else ""
        return f"{source}: {place}: not TOML: {reason}{shown}"
    return f"{source}: {place}: not TOML: {reason}; something opened is not closed"

"""Writes rows to JSON files one at a time, so that no round has to fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


def write_array(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes a JSON array, one row a line; returns the number of rows."""
    count = 0
    with path.open("wb") as file:
        file.write(b"[")
        for row in rows:
            file.write((b",\n" if count else b"\n") + msgspec.json.encode(row))
            count += 1
        file.write(b"\n]\n")
    return count


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes JSON Lines; returns the number of rows."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count


def assistant(text: str) -> list[dict[str, str]]:
    """Returns a completion as a conversation's next turns."""
    return [{"role": "assistant", "content": text}]

"""Writes TRL's conversational dataset rows as JSON Lines: prompt-only, preference, unpaired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from halos_backend.records import Feedback, Group, PreferencePair, UnpairedFeedback

from halos_tui.completions.round_rows import RoundRows
from halos_tui.headless.export.json_files import assistant, write_lines


def write_trl(output: Path, rounds: Sequence[RoundRows]) -> list[Path]:
    """Writes `R{n}_prompts.jsonl` of each round, and its feedback where TRL has rows for its kind.

    Whole groups with rewards (scalar feedback) have no TRL row: GRPO samples for itself there.
    """
    written = []
    for rows in rounds:
        number = rows.round.round
        path = output / f"R{number}_prompts.jsonl"
        write_lines(path, (_about(group) for group in rows.groups()))
        written.append(path)
        kind = _kind(rows)
        if kind is not None:
            path = output / f"R{number}_{kind}.jsonl"
            write_lines(path, _feedback(rows))
            written.append(path)
    return written


def _kind(rows: RoundRows) -> str | None:
    """Returns TRL's name of the round's feedback; None without any."""
    match next(rows.feedback(), None):
        case PreferencePair():
            return "preference"
        case UnpairedFeedback():
            return "unpaired"
        case _:
            return None


def _feedback(rows: RoundRows) -> Iterator[dict[str, Any]]:
    for row in rows.feedback():
        yield {**_about(row), **_fields(row)}


def _about(row: Group | Feedback) -> dict[str, Any]:
    """Returns the messages of a row, and the tools that may be called, where there are any."""
    tools = {"tools": list(row.tools)} if row.tools else {}
    return {"prompt": list(row.prompt), **tools}


def _fields(row: Feedback) -> dict[str, Any]:
    match row:
        case PreferencePair():
            return {
                "chosen": assistant(row.chosen.text),
                "rejected": assistant(row.rejected.text),
            }
        case UnpairedFeedback():
            return {"completion": assistant(row.completion.text), "label": row.is_desirable}
        case Group():
            raise TypeError("a round has feedback of one kind")

"""Writes CSV: a row per completion, and a row per round."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.events import STAGES
from halos_backend.records import is_plain
from halos_backend.store.own_words import NO_MARKS, OwnMarks
from halos_backend.store.round_state import RoundState

from halos_tui.completions.round_rows import RoundRows, num_tokens
from halos_tui.headless.notices import read_own_marks

COLUMNS = (
    "round",
    "prompt_id",
    "completion_id",
    "policy_version",
    "reward",
    "unscored",
    "penalty",
    "mark",
    "marked",
    "note",
    "finish_reason",
    "num_tokens",
    "prompt",
    "text",
)


def write_csv(output: Path, rounds: Sequence[RoundRows]) -> list[Path]:
    """Writes `completions.csv` and `rounds.csv`. A prompt of several messages is written as
    JSON.
    """
    completions, table = output / "completions.csv", output / "rounds.csv"
    with completions.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        own_marks = read_own_marks(rounds[0].run_dir) if rounds else NO_MARKS
        for rows in rounds:
            writer.writerows(_completions(rows, own_marks))
    summaries = [_round(rows.round) for rows in rounds]
    names = list(dict.fromkeys(name for summary in summaries for name in summary))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(summaries)
    return [completions, table]


def _completions(rows: RoundRows, own_marks: OwnMarks) -> Iterator[dict[str, Any]]:
    marks = rows.marks()
    for group in rows.groups():
        prompt = (
            group.prompt[0]["content"]
            if len(group.prompt) == 1 and is_plain(group.prompt[0])
            else msgspec.json.encode(group.prompt).decode()
        )
        for completion in group.completions:
            own = own_marks.on(rows.round.round, group.prompt_id, completion.completion_id)
            yield {
                "round": rows.round.round,
                "prompt_id": group.prompt_id,
                "completion_id": completion.completion_id,
                "policy_version": group.policy_version,
                "reward": completion.reward,
                "unscored": completion.unscored,
                "penalty": completion.penalty,
                "mark": marks.get((group.prompt_id, completion.completion_id)),
                "marked": int(own.is_marked),
                "note": own.note,
                "finish_reason": completion.finish_reason,
                "num_tokens": num_tokens(completion),
                "prompt": prompt,
                "text": completion.text,
            }


def _round(round: RoundState) -> dict[str, Any]:
    """Returns the round, and its stages' summaries as `stage_key`; tables inside them are left
    out.
    """
    return {
        "round": round.round,
        "closing": round.closing,
        "num_prompts": round.num_prompts,
        "checkpoint": round.checkpoint,
        "untrained": round.untrained,
        "unscored": round.unscored,
        **{
            f"{stage}_{name}": value
            for stage in STAGES
            if stage in round.stages
            for name, value in round.stages[stage].figures.items()
            if not isinstance(value, dict | list)
        },
    }

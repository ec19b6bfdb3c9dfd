"""Writes samples and feedback as ContextualAI/HALOs and TRL read them, row by row.

HALOs' loaders are `get_sampled_data` and `get_feedback` in its train/data.py, and read JSON arrays.
`prompt_id` is a number there and restarts every round; here it is the prompt's row in the run, so
that it is the same prompt in every round. Which completion of a pair is `output_A` is drawn from a
hash of the pair, so that an export of the same run gives the same bytes. TRL reads JSON Lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.records import Feedback, Group, PreferencePair, UnpairedFeedback, read_rows
from halos_backend.store.prompt_order import derived_seed
from halos_backend.store.run_dir import RunDir

from halos_tui.completions.round_rows import RoundRows

SPLIT = "train"
"""Feedback is for training; HALOs' loaders skip samples whose split is not the one they load."""


class _PromptId(msgspec.Struct):
    prompt_id: str


def write_halos(output: Path, rounds: Sequence[RoundRows], dataset: str) -> list[Path]:
    """Writes `R{n}_samples.json` and, where there is feedback, `R{n}_feedback.json` of each
    round.
    """
    written = []
    numbers = _prompt_numbers(rounds[0].run_dir) if rounds else {}
    for rows in rounds:
        number = rows.round.round
        path = output / f"R{number}_samples.json"
        _write_array(path, _samples(rows, numbers, dataset))
        written.append(path)
        path = output / f"R{number}_feedback.json"
        if _write_array(path, _halos_rows(rows, numbers)):
            written.append(path)
        else:
            path.unlink()  # HALOs refuses an empty array
    return written


def _prompt_numbers(run_dir: RunDir) -> dict[str, int]:
    rows = read_rows(run_dir.prompts, _PromptId)
    return {row.prompt_id: number for number, row in enumerate(rows)}


def _samples(rows: RoundRows, numbers: Mapping[str, int], dataset: str) -> Iterator[dict[str, Any]]:
    for group in rows.groups():
        for sample_id, completion in enumerate(group.completions):
            yield {
                "output": completion.text,
                "generator": f"{rows.run_dir.name}, round {group.policy_version}",
                "dataset": dataset,
                "split": SPLIT,
                "prompt_id": numbers[group.prompt_id],
                "sample_id": sample_id,
                "type": "sample",
                "prompt": msgspec.to_builtins(group.prompt),
            }


def _halos_rows(rows: RoundRows, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for row in rows.feedback():
        about = {
            "prompt_id": numbers[row.prompt_id],
            "prompt": msgspec.to_builtins(row.prompt),
        }
        yield from ({**about, **fields} for fields in _halos_fields(row, rows.round.round))


def _halos_fields(row: Feedback, round: int) -> Iterator[dict[str, Any]]:
    match row:
        case PreferencePair():
            yield _pair_fields(row, round)
        case UnpairedFeedback():
            yield {
                "output": assistant(row.completion.text),
                "label": int(row.is_desirable),
                "reward": row.reward,
                "type": "binary_feedback",
            }
        case Group():
            for sample_id, completion in enumerate(row.completions):
                if completion.reward is not None:
                    yield {
                        "output": assistant(completion.text),
                        "sample_id": sample_id,
                        "reward": completion.reward,
                        "type": "scalar_feedback",
                    }


def _pair_fields(row: PreferencePair, round: int) -> dict[str, Any]:
    sides = [(row.chosen, row.reward_chosen), (row.rejected, row.reward_rejected)]
    ids = (row.chosen.completion_id, row.rejected.completion_id)
    chosen_first = derived_seed("halos export", round, row.prompt_id, *ids) % 2 == 0
    (side_a, reward_a), (side_b, reward_b) = sides if chosen_first else reversed(sides)
    return {
        "output_A": assistant(side_a.text),
        "output_B": assistant(side_b.text),
        "label": int(chosen_first),
        "reward_A": reward_a,
        "reward_B": reward_b,
        "reward_difference": abs(reward_a - reward_b),
        "type": "pairwise_feedback",
    }


def assistant(text: str) -> list[dict[str, str]]:
    """Returns a completion as a conversation's next turns."""
    return [{"role": "assistant", "content": text}]


def write_trl(output: Path, rounds: Sequence[RoundRows]) -> list[Path]:
    """Writes `R{n}_prompts.jsonl` of each round, and its feedback where TRL has rows for its kind.

    Whole groups with rewards (scalar feedback) have no TRL row: GRPO samples for itself there.
    """
    written = []
    for rows in rounds:
        number = rows.round.round
        path = output / f"R{number}_prompts.jsonl"
        _write_lines(path, (_about(group) for group in rows.groups()))
        written.append(path)
        kind = _kind(rows)
        if kind is not None:
            path = output / f"R{number}_{kind}.jsonl"
            _write_lines(path, _trl_rows(rows))
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


def _trl_rows(rows: RoundRows) -> Iterator[dict[str, Any]]:
    for row in rows.feedback():
        yield {**_about(row), **_trl_fields(row)}


def _about(row: Group | Feedback) -> dict[str, Any]:
    """Returns the messages of a row, and the tools that may be called, where there are any."""
    tools = {"tools": list(row.tools)} if row.tools else {}
    return {"prompt": list(row.prompt), **tools}


def _trl_fields(row: Feedback) -> dict[str, Any]:
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


def _write_array(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes a JSON array, one row a line; returns the number of rows."""
    count = 0
    with path.open("wb") as file:
        file.write(b"[")
        for row in rows:
            file.write((b",\n" if count else b"\n") + msgspec.json.encode(row))
            count += 1
        file.write(b"\n]\n")
    return count


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes JSON Lines; returns the number of rows."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count

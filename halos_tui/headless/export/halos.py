"""Writes the JSON arrays that the loaders of ContextualAI/HALOs read.

These loaders are `get_sampled_data` and `get_feedback` in its train/data.py.
`prompt_id` is a number there and restarts every round; here it is the prompt's row in the run, so
that it is the same prompt in every round. Which completion of a pair is `output_A` is drawn from a
hash of the pair, so that an export of the same run gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from halos_backend.records import Feedback, Group, PreferencePair, UnpairedFeedback, read_rows
from halos_backend.store.prompt_order import derived_seed
from halos_backend.store.run_dir import RunDir

from halos_tui.completions.round_rows import RoundRows
from halos_tui.headless.export.json_files import assistant, write_array

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
        write_array(path, _samples(rows, numbers, dataset))
        written.append(path)
        path = output / f"R{number}_feedback.json"
        if write_array(path, _feedback(rows, numbers)):
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


def _feedback(rows: RoundRows, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for row in rows.feedback():
        about = {
            "prompt_id": numbers[row.prompt_id],
            "prompt": msgspec.to_builtins(row.prompt),
        }
        yield from ({**about, **fields} for fields in _fields(row, rows.round.round))


def _fields(row: Feedback, round: int) -> Iterator[dict[str, Any]]:
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

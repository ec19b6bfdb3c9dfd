"""Compares our train stage with a plain trainer that pads to `max_length`; prints one JSON object.

Both train the same DPO pairs once, on one thread: ragged ones against 512, and pairs whose sides
have 100 tokens each against HALOs' default of 1,250. Ours counts the reference pass and the steps;
the plain one has the reference's forward in its steps.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from synthetic import make_model, measure, phase_seconds, ragged, run_stage, settings, words

NUM_PAIRS = 16
BATCH_SIZE = 4


@dataclass(frozen=True)
class Case:
    """Gives tokens of prompts and completions, from and to, and what the plain trainer pads to."""

    prompt: tuple[int, int]
    completion: tuple[int, int]
    max_length: int


CASES = {
    "ragged": Case((10, 80), (10, 150), 512),
    "100_tokens": Case((40, 40), (57, 57), 1250),
}
NUM_TEMPLATE_TOKENS = 3


def write_pairs(path: Path, case: Case) -> int:
    """Writes the feedback; returns how many tokens its sequences have."""
    from halos_backend.records import Completion, PreferencePair, write_rows

    numbers = random.Random(0)
    rows, num_tokens = [], 0
    for i in range(NUM_PAIRS):
        prompt = ragged(numbers, *case.prompt)
        sides = []
        for k in range(2):
            ids = tuple(ragged(numbers, *case.completion))
            sides.append(Completion(f"{i}.{k}", words(ids), ids, "stop", reward=float(k)))
            num_tokens += len(prompt) + NUM_TEMPLATE_TOKENS + len(ids)
        message = ({"role": "user", "content": words(prompt)},)
        rows.append(
            PreferencePair(str(i), message, (1, *prompt, 2, 3), sides[1], sides[0], 1.0, 0.0)
        )
    write_rows(path, rows)
    return num_tokens


def compare(case: Case) -> dict[str, float]:
    """Runs both trainers on the case's pairs, one after the other."""
    from halos_backend.store.job import TrainInputs

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model, feedback, attempt = work / "model", work / "feedback.jsonl", work / "attempt_1"
        make_model(model)
        num_tokens = write_pairs(feedback, case)
        plain = Path(__file__).with_name("padded_trainer.py")
        arguments = [str(model), str(feedback), str(case.max_length), str(BATCH_SIZE), "cpu"]
        theirs = measure([sys.executable, str(plain), *arguments])
        inputs = TrainInputs(
            model=str(model),
            initial=str(model),
            reference=str(model),
            feedback=str(feedback),
            completions=str(feedback),
            trainer_state=None,
            progress_start=0.0,
            progress_end=1.0,
            first_step=0,
        )
        train = {"loss": {"kind": "dpo"}, "batch_size": BATCH_SIZE, "lr": 1e-5}
        ours = run_stage("train", attempt, inputs, settings(model, work, train=train))
        our_seconds = phase_seconds(attempt, ("reference", "training"))
    their_seconds = json.loads(theirs.stdout)["seconds"]
    return {
        "pairs": NUM_PAIRS,
        "tokens": num_tokens,
        "max_length": case.max_length,
        "examples_per_s": NUM_PAIRS / our_seconds,
        "padded_examples_per_s": NUM_PAIRS / their_seconds,
        "speed_ratio": their_seconds / our_seconds,
        "peak_bytes": ours.peak_bytes,
        "padded_peak_bytes": theirs.peak_bytes,
        "peak_memory_ratio": ours.peak_bytes / theirs.peak_bytes,
    }


def main() -> None:
    results = {name: compare(case) for name, case in CASES.items()}
    print(json.dumps({"benchmark": "train", **results}))


if __name__ == "__main__":
    main()

"""Training: our stage against a plain trainer that pads to `max_length`; prints one JSON object.

Both train the same DPO pairs once, on one thread. Ours counts the reference pass and the steps;
the plain one has the reference's forward in its steps.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

from synthetic import make_model, measure, phase_seconds, ragged, run_stage, settings, words

NUM_PAIRS = 16
BATCH_SIZE = 4
MAX_LENGTH = 512


def write_pairs(path: Path) -> None:
    from halos_backend.records import Completion, Message, PreferencePair, write_rows

    numbers = random.Random(0)
    rows = []
    for i in range(NUM_PAIRS):
        prompt = ragged(numbers, 10, 80)
        sides = []
        for k in range(2):
            ids = tuple(ragged(numbers, 10, 150))
            sides.append(Completion(f"{i}.{k}", words(ids), ids, "stop", reward=float(k)))
        message = (Message("user", words(prompt)),)
        rows.append(
            PreferencePair(str(i), message, (1, *prompt, 2, 3), sides[1], sides[0], 1.0, 0.0)
        )
    write_rows(path, rows)


def main() -> None:
    from halos_backend.store.job import TrainInputs

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model, feedback, attempt = work / "model", work / "feedback.jsonl", work / "attempt_1"
        make_model(model)
        write_pairs(feedback)
        plain = Path(__file__).with_name("padded_trainer.py")
        arguments = [str(model), str(feedback), str(MAX_LENGTH), str(BATCH_SIZE)]
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
    print(
        json.dumps(
            {
                "benchmark": "train",
                "pairs": NUM_PAIRS,
                "max_length": MAX_LENGTH,
                "examples_per_s": NUM_PAIRS / our_seconds,
                "padded_examples_per_s": NUM_PAIRS / their_seconds,
                "speed_ratio": their_seconds / our_seconds,
                "peak_bytes": ours.peak_bytes,
                "padded_peak_bytes": theirs.peak_bytes,
                "peak_memory_ratio": ours.peak_bytes / theirs.peak_bytes,
            }
        )
    )


if __name__ == "__main__":
    main()

"""Compares our label stage with one sequence per forward, with a reward model on one thread.

Prints one JSON object. Both count tokenization and forwards, not the loading of the model.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

from synthetic import make_model, measure, median, phase_seconds, ragged, run_stage, settings, words

NUM_PROMPTS = 48
GROUP_SIZE = 8
PAIRS_OF_RUNS = 3


def write_completions(path: Path) -> None:
    from halos_backend.records import Completion, Group, write_rows

    numbers = random.Random(0)
    rows = []
    for i in range(NUM_PROMPTS):
        prompt = ragged(numbers, 5, 60)
        completions = []
        for k in range(GROUP_SIZE):
            ids = tuple(ragged(numbers, 5, 120))
            completions.append(Completion(f"{i}.{k}", words(ids), ids, "stop"))
        message = ({"role": "user", "content": words(prompt)},)
        rows.append(Group(str(i), message, (1, *prompt, 2, 3), 0, tuple(completions)))
    write_rows(path, rows)


def main() -> None:
    from halos_backend.store.job import LabelInputs

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model, completions = work / "model", work / "completions.jsonl"
        make_model(model, classifier=True)
        write_completions(completions)
        judge = {"kind": "reward_model", "path": str(model), "dtype": "float32"}
        label = {"judge": judge, "feedback": {"kind": "pairwise"}}
        resolved = settings(model, work, label=label)
        plain = Path(__file__).with_name("single_scorer.py")
        for number in range(1, PAIRS_OF_RUNS + 1):
            finished = measure([sys.executable, str(plain), str(model), str(completions), "cpu"])
            theirs.append(json.loads(finished.stdout)["seconds"])
            attempt = work / f"attempt_{number}"
            run_stage("label", attempt, LabelInputs(str(completions)), resolved)
            ours.append(phase_seconds(attempt, ("scoring",)))
    sequences = NUM_PROMPTS * GROUP_SIZE
    print(
        json.dumps(
            {
                "benchmark": "label",
                "sequences": sequences,
                "sequences_per_s": sequences / median(ours),
                "single_sequences_per_s": sequences / median(theirs),
                "speed_ratio": median([t / o for o, t in zip(ours, theirs, strict=True)]),
            }
        )
    )


if __name__ == "__main__":
    main()

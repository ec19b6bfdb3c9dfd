"""Compares our sample stage with plain `model.generate` in file order; prints one JSON object.

Same model, prompts, batch size and limits on one thread; tokens up to the end token count, padding
after it does not. The random model ends a completion with one of a 50th of its words, so lengths
are as ragged as real ones.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

from synthetic import (
    VOCABULARY,
    make_model,
    measure,
    median,
    phase_seconds,
    ragged,
    run_stage,
    settings,
    words,
)

NUM_PROMPTS = 16
GROUP_SIZE = 4
BATCH_SIZE = 32
MAX_NEW_TOKENS = 64
PAIRS_OF_RUNS = 3
END_IDS = list(range(VOCABULARY - VOCABULARY // 50, VOCABULARY))
SETTINGS = {
    "group_size": GROUP_SIZE,
    "batch_size": BATCH_SIZE,
    "max_new_tokens": MAX_NEW_TOKENS,
    "temperature": 1.0,
    "top_p": 0.95,
    "stop_token_ids": END_IDS,
}


def write_prompts(path: Path) -> None:
    from halos_backend.records import Prompt, write_rows

    numbers = random.Random(0)
    rows = []
    for i in range(NUM_PROMPTS):
        ids = ragged(numbers, 10, 300)
        rows.append(Prompt(str(i), ({"role": "user", "content": words(ids)},), (1, *ids, 2, 3)))
    write_rows(path, rows)


def main() -> None:
    from halos_backend.store.job import SampleInputs

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model, prompts = work / "model", work / "prompts.jsonl"
        make_model(model)
        write_prompts(prompts)
        resolved = settings(model, work, sample=SETTINGS)
        plain = Path(__file__).with_name("plain_generator.py")
        sizes = [str(size) for size in (GROUP_SIZE, BATCH_SIZE, MAX_NEW_TOKENS)]
        command = [sys.executable, str(plain), str(model), str(prompts), *sizes]
        inputs = SampleInputs(str(model), 0, str(prompts), 0, NUM_PROMPTS, str(model))
        for number in range(1, PAIRS_OF_RUNS + 1):
            finished = json.loads(measure([*command, json.dumps([2, *END_IDS]), "cpu"]).stdout)
            theirs.append(finished["tokens"] / finished["seconds"])
            attempt = work / f"attempt_{number}"
            run_stage("sample", attempt, inputs, resolved)
            summary = json.loads((attempt / "DONE").read_text())["summary"]
            ours.append(summary["num_tokens"] / phase_seconds(attempt, ("generating",)))
    print(
        json.dumps(
            {
                "benchmark": "sample",
                "completions": NUM_PROMPTS * GROUP_SIZE,
                "tokens_per_s": median(ours),
                "generate_tokens_per_s": median(theirs),
                "speed_ratio": median([o / t for o, t in zip(ours, theirs, strict=True)]),
            }
        )
    )


if __name__ == "__main__":
    main()

"""Measures a round of online DPO, in three ways, in one run; prints one JSON object.

SmolLM2-135M in fp32 on two threads, 16 prompts x 4 completions of at most 64 tokens, a reward model
of the same size, 16 pairs. `halos_shaped`: three fresh programs a round, as HALOs' scripts start
them (vLLM as it is, `accelerate launch` twice), at a max_length of 192 and of 1,250. `cold`: ours,
with a fresh program for each stage. `warm`: ours, with workers that stay. Ours are whole runs,
supervisor and checkpoints included; rounds from the second on count.
Needs what `make test-vllm` sets up, and a quiet machine. `--rounds N` (3), `--without-1250`,
`--without-cold`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from synthetic import measure, median
from whole_runs import (
    BATCH_SIZE,
    NUM_THREADS,
    SMOLLM2,
    VLLM_PYTHON,
    Size,
    Table,
    check_set_up,
    make_reward_model,
    questions,
    run_ours,
)

HALOS_SHAPED = Path(__file__).with_name("halos_shaped.py")
SIZE = Size()
THEIR_COMPUTING = ("generate", "score", "evaluate", "steps")
ACCELERATE = (
    str(Path(sys.executable).with_name("accelerate")),
    "launch",
    "--cpu",
    "--num_processes=1",
    "--num_machines=1",
    "--mixed_precision=no",
    "--dynamo_backend=no",
    f"--num_cpu_threads_per_process={NUM_THREADS}",
)


def halos_checkpoint(path: Path) -> Path:
    """Makes what a first round leaves: SmolLM2 and a state of AdamW."""
    measure([sys.executable, HALOS_SHAPED, "begin", SMOLLM2, path], num_threads=NUM_THREADS)
    return path


def halos_shaped(
    work: Path, policy: Path, prompts: Path, reward_model: Path, max_length: int
) -> Table:
    """Runs a round after the first: three programs, each started when the one before is over."""
    work.mkdir()
    samples, feedback, out = work / "samples.jsonl", work / "feedback.jsonl", work / "trained"
    numbers = [
        str(number) for number in (SIZE.group_size, SIZE.max_new_tokens, max_length, BATCH_SIZE)
    ]
    commands: dict[str, list[str | Path]] = {
        "sample": [VLLM_PYTHON, HALOS_SHAPED, "sample", policy, prompts, samples, *numbers[:2]],
        "label": [*ACCELERATE, HALOS_SHAPED, "label", reward_model, samples, feedback],
        "train": [
            *(*ACCELERATE, HALOS_SHAPED, "train"),
            *(policy, SMOLLM2, feedback, out, *numbers[2:]),
        ],
    }
    phases, peaks, walls = {}, {}, {}
    for stage, command in commands.items():
        done = measure(command, num_threads=NUM_THREADS)
        said = [line for line in done.stdout.splitlines() if line.startswith('{"load"')]
        phases[stage] = json.loads(said[-1])  # vLLM says more on its way out
        walls[stage], peaks[stage] = done.wall_s, done.peak_bytes
    computing = sum(
        seconds
        for stage in phases.values()
        for name, seconds in stage.items()
        if name in THEIR_COMPUTING
    )
    total = sum(walls.values())
    return {
        "seconds": total,
        "stage_seconds": walls,
        "phase_seconds": phases,
        "computing_seconds": computing,
        "fraction_not_computing": 1 - computing / total,
        "peak_bytes": peaks,
    }


def middle(rounds: Sequence[Table]) -> Table:
    """Returns the round of median length, and what it says of itself."""
    chosen = dict(sorted(rounds, key=lambda each: each["seconds"])[len(rounds) // 2])
    total = chosen["seconds"]
    chosen["all_seconds"] = [each["seconds"] for each in rounds]
    chosen["fraction_not_computing"] = 1 - chosen["computing_seconds"] / total
    chosen["tokens_per_s"] = chosen["tokens"]["sampled"] / total
    return chosen


def disk_bytes_per_s(work: Path) -> float:
    """Measures a file like a checkpoint, flushed to the disk."""
    block, rates = os.urandom(1 << 24), []
    for _ in range(3):
        started = time.monotonic()
        with (work / "block").open("wb") as file:
            for _ in range(32):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        rates.append(32 * len(block) / (time.monotonic() - started))
    return median(rates)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-1250", action="store_true")
    parser.add_argument("--without-cold", action="store_true")
    given = parser.parse_args()
    check_set_up()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        reward_model = work / "reward_model"
        make_reward_model(reward_model)
        prompts = work / "prompts.jsonl"
        write_tokenized(prompts, questions(SIZE.num_prompts))
        result: Table = {"benchmark": "round", "disk_bytes_per_s": disk_bytes_per_s(work)}
        ways = {"warm": True} if given.without_cold else {"warm": True, "cold": False}
        for name, is_warm in ways.items():
            rounds = run_ours(
                work / name, reward_model, SIZE, num_rounds=given.rounds, is_warm=is_warm
            )
            result[name] = middle(rounds)
            saving = result[name]["checkpoint_bytes"] / result["disk_bytes_per_s"]
            rest = result[name]["seconds"] - result[name]["computing_seconds"] - saving
            result[name]["fraction_besides_disk"] = rest / result[name]["seconds"]
        policy = halos_checkpoint(work / "policy")
        for length in (192,) if given.without_1250 else (192, 1250):
            theirs = halos_shaped(work / f"halos_{length}", policy, prompts, reward_model, length)
            result[f"halos_shaped_{length}"] = theirs
            for name in ways:
                result[name][f"speed_ratio_{length}"] = theirs["seconds"] / result[name]["seconds"]
    print(json.dumps(result))


def write_tokenized(path: Path, asked: Sequence[str]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    with path.open("w") as file:
        for question in asked:
            prompt = [{"role": "user", "content": question}]
            ids = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, return_dict=True
            )["input_ids"]
            file.write(json.dumps({"prompt": prompt, "token_ids": ids}) + "\n")


if __name__ == "__main__":
    main()

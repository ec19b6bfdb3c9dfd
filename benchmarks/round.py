"""A round of online DPO, in three ways, in one run; prints one JSON object.

SmolLM2-135M in fp32 on two threads, 16 prompts x 4 completions of at most 64 tokens, a reward model
of the same size, 16 pairs. `halos_shaped`: three fresh programs a round, as HALOs' scripts start
them (vLLM as it is, `accelerate launch` twice), at a max_length of 192 and of 1,250. `cold`: ours,
with a fresh program for each stage. `warm`: ours, with workers that stay. Ours are whole runs,
supervisor and checkpoints included; rounds from the second on count.
Needs what `make test-vllm` sets up, and a quiet machine. `--rounds N` (3), `--without-1250`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from synthetic import measure, median, phase_seconds

ROOT = Path(__file__).parents[1]
VLLM_PYTHON = ROOT / ".venv-vllm/bin/python"
SMOLLM2 = ROOT / ".cache/smollm2"
HALOS_SHAPED = Path(__file__).with_name("halos_shaped.py")
MARK = "ROUND_BENCHMARK"
NUM_THREADS = 2
NUM_PROMPTS = 16
GROUP_SIZE = 4
MAX_NEW_TOKENS = 64
BATCH_SIZE = 4
COMPUTING = {
    "sample": ("generating",),
    "label": ("scoring",),
    "train": ("KL", "log-prob", "reference", "training"),
}
THEIR_COMPUTING = ("generate", "score", "evaluate", "steps")
LOOK_S = 0.5
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
Table = dict[str, Any]

RUN_FILE = """
[policy]
path = "{policy}"
[prompts]
path = "{prompts}"
prompt = "question"
[loop]
num_rounds = {num_rounds}
prompts_per_round = {num_prompts}
[sample]
engine = "vllm"
python = "{python}"
group_size = {group_size}
max_new_tokens = {max_new_tokens}
temperature = 1.0
top_p = 1.0
[label.judge]
kind = "reward_model"
path = "{reward_model}"
[label.feedback]
kind = "pairwise"
[train]
batch_size = {batch_size}
num_kl_completions = {num_prompts}
lr = 1e-6
[train.loss]
kind = "dpo"
[launch]
num_threads = {num_threads}
warm_workers = {is_warm}
"""


def make_reward_model(path: Path) -> None:
    """SmolLM2 with one random logit."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        SMOLLM2, num_labels=1, dtype=torch.float32
    )
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(SMOLLM2).save_pretrained(path)


def questions(count: int) -> list[str]:
    numbers = random.Random(0)
    things = ("apples", "books", "stamps", "marbles", "coins")
    return [
        f"Anna has {numbers.randint(2, 99)} {thing}, gives away {numbers.randint(1, 9)} a day for"
        f" {numbers.randint(2, 9)} days, and gets {numbers.randint(2, 50)} more. How many {thing}"
        " has she now? Say how you found it."
        for thing in numbers.choices(things, k=count)
    ]


class MemoryWatch(threading.Thread):
    """The largest sum of proportional set sizes, of all marked processes and of each stage's."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(LOOK_S):
            now: dict[str, int] = defaultdict(int)
            for process in marked():
                try:
                    command, size = " ".join(process.cmdline()), process.memory_full_info().pss
                except psutil.Error:
                    continue
                now["together"] += size
                for stage in COMPUTING:
                    if f"stages.{stage}" in command:
                        now[stage] += size
            for name, size in now.items():
                self.peak_bytes[name] = max(self.peak_bytes[name], size)

    def stop(self) -> dict[str, int]:
        self._is_over.set()
        self.join()
        return dict(self.peak_bytes)


def marked() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if MARK in process.environ() and process.pid != os.getpid():
                yield process
        except psutil.Error:
            continue


def halos_shaped(work: Path, prompts: Path, reward_model: Path, max_length: int) -> Table:
    """One round: three programs, each started by the one before being over."""
    work.mkdir()
    samples, feedback, out = work / "samples.jsonl", work / "feedback.jsonl", work / "policy"
    numbers = [str(number) for number in (GROUP_SIZE, MAX_NEW_TOKENS, max_length, BATCH_SIZE)]
    commands: dict[str, list[str | Path]] = {
        "sample": [VLLM_PYTHON, HALOS_SHAPED, "sample", SMOLLM2, prompts, samples, *numbers[:2]],
        "label": [*ACCELERATE, HALOS_SHAPED, "label", reward_model, samples, feedback],
        "train": [*ACCELERATE, HALOS_SHAPED, "train", SMOLLM2, feedback, out, *numbers[2:]],
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


def ours(
    work: Path, questions_file: Path, reward_model: Path, *, num_rounds: int, is_warm: bool
) -> Table:
    """A whole run; the median of its rounds from the second on."""
    work.mkdir()
    config = work / "round.toml"
    config.write_text(
        RUN_FILE.format(
            policy=SMOLLM2,
            prompts=questions_file,
            num_rounds=num_rounds,
            num_prompts=NUM_PROMPTS,
            python=VLLM_PYTHON,
            group_size=GROUP_SIZE,
            max_new_tokens=MAX_NEW_TOKENS,
            reward_model=reward_model,
            batch_size=BATCH_SIZE,
            num_threads=NUM_THREADS,
            is_warm=str(is_warm).lower(),
        )
    )
    watch = MemoryWatch()
    watch.start()
    run = ["run", str(config), "--no-ui", "--name", "round", "--runs-dir", str(work)]
    done = subprocess.run(
        [sys.executable, "-m", "halos_tui", *run],
        env={**os.environ, MARK: "1", "HALOS_CACHE_DIR": str(work / "cache")},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    peaks = watch.stop()
    if done.returncode != 0:
        raise SystemExit(f"a run of ours ended with exit code {done.returncode}")
    rounds = [one_round(work / "round", number) for number in range(2, num_rounds + 1)]
    return {**middle(rounds), "peak_bytes": peaks}


def one_round(run: Path, number: int) -> Table:
    """From the end of the round before to its own, by the journal; phases by the attempts'."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    ends = {e["round"]: e["t"] for e in events if e["type"] == "RoundFinished"}
    total = ends[number] - ends[number - 1]
    stages = {
        e["stage"]: e for e in events if e["type"] == "StageFinished" and e["round"] == number
    }
    computing, phases = 0.0, {}
    for stage, words in COMPUTING.items():
        attempt = run / f"rounds/{number:04d}/{stage}/attempt_{stages[stage]['attempt']}"
        phases[stage] = by_phase(attempt)
        computing += phase_seconds(attempt, words)
    trained = run / f"rounds/{number:04d}/train/attempt_{stages['train']['attempt']}"
    manifest = json.loads((trained / "DONE").read_text())
    return {
        "seconds": total,
        "stage_seconds": {stage: event["elapsed_s"] for stage, event in stages.items()},
        "phase_seconds": phases,
        "computing_seconds": computing,
        "sampled_tokens": stages["sample"]["summary"]["num_tokens"],
        "checkpoint_bytes": sum(file["bytes"] for file in manifest["files"]),
    }


def by_phase(attempt: Path) -> dict[str, float]:
    events = [json.loads(line) for line in (attempt / "events.jsonl").read_text().splitlines()]
    names = [event["phase"] for event in events if event["type"] == "PhaseChanged"]
    return {name: phase_seconds(attempt, (name,)) for name in names}


def middle(rounds: Sequence[Table]) -> Table:
    """The round of median length, and what it says of itself."""
    chosen = dict(sorted(rounds, key=lambda each: each["seconds"])[len(rounds) // 2])
    total = chosen["seconds"]
    chosen["all_seconds"] = [each["seconds"] for each in rounds]
    chosen["fraction_not_computing"] = 1 - chosen["computing_seconds"] / total
    chosen["tokens_per_s"] = chosen["sampled_tokens"] / total
    return chosen


def disk_bytes_per_s(work: Path) -> float:
    """Of a file like a checkpoint, flushed to the disk."""
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
    given = parser.parse_args()
    if not VLLM_PYTHON.is_file() or not (SMOLLM2 / "config.json").is_file():
        raise SystemExit("run `make test-vllm` first: it sets up vLLM and SmolLM2")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        reward_model = work / "reward_model"
        make_reward_model(reward_model)
        asked = questions(NUM_PROMPTS * given.rounds)
        questions_file, prompts = work / "questions.jsonl", work / "prompts.jsonl"
        questions_file.write_text("".join(json.dumps({"question": q}) + "\n" for q in asked))
        write_tokenized(prompts, asked[:NUM_PROMPTS])
        result: Table = {"benchmark": "round", "disk_bytes_per_s": disk_bytes_per_s(work)}
        for name, is_warm in (("warm", True), ("cold", False)):
            result[name] = ours(
                work / name, questions_file, reward_model, num_rounds=given.rounds, is_warm=is_warm
            )
            saving = result[name]["checkpoint_bytes"] / result["disk_bytes_per_s"]
            rest = result[name]["seconds"] - result[name]["computing_seconds"] - saving
            result[name]["fraction_besides_disk"] = rest / result[name]["seconds"]
        lengths = (192,) if given.without_1250 else (192, 1250)
        for length in lengths:
            theirs = halos_shaped(work / f"halos_{length}", prompts, reward_model, length)
            result[f"halos_shaped_{length}"] = theirs
            for name in ("warm", "cold"):
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

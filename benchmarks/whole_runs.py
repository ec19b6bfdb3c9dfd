"""Makes whole runs of ours with SmolLM2-135M, real vLLM and a reward model, to measure rounds.

They are in fp32 on two threads; rounds' seconds come from the journal, phases' from the attempts'
events. It needs what `make test-vllm` sets up.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from synthetic import phase_seconds

ROOT = Path(__file__).parents[1]
VLLM_PYTHON = ROOT / ".venv-vllm/bin/python"
SMOLLM2 = ROOT / ".cache/smollm2"
MARK = "ROUND_BENCHMARK"
NUM_THREADS = 2
BATCH_SIZE = 4
COMPUTING = {
    "sample": ("generating",),
    "label": ("scoring",),
    "train": ("KL", "log-prob", "reference", "training"),
}
LOOK_S = 0.5
Table = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """Gives a round's size: prompts, completions of each, tokens of a completion at most."""

    num_prompts: int = 16
    group_size: int = 4
    max_new_tokens: int = 64


RUN_FILE = """
[policy]
path = "{policy}"
[prompts]
path = "{prompts}"
prompt = "question"
[loop]
num_rounds = {num_rounds}
prompts_per_round = {size.num_prompts}
score_final = false
[sample]
engine = "vllm"
python = "{python}"
group_size = {size.group_size}
max_new_tokens = {size.max_new_tokens}
temperature = 1.0
top_p = 1.0
[label.judge]
kind = "reward_model"
path = "{reward_model}"
[label.feedback]
kind = "pairwise"
[train]
batch_size = {batch_size}
num_kl_completions = {size.num_prompts}
lr = 1e-6
[train.loss]
kind = "dpo"
[launch]
num_threads = {num_threads}
warm_workers = {is_warm}
"""


def check_set_up() -> None:
    if not VLLM_PYTHON.is_file() or not (SMOLLM2 / "config.json").is_file():
        raise SystemExit("run `make test-vllm` first: it sets up vLLM and SmolLM2")


def make_reward_model(path: Path) -> None:
    """Makes SmolLM2 with one random logit."""
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
    """Finds the largest sum of proportional set sizes, of all marked processes and of each stage's.

    Reading them takes a tenth of a core, so it rests while rounds are timed.
    """

    def __init__(self, is_timed: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._is_timed = is_timed
        self.peak_bytes: dict[str, int] = defaultdict(int)
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(LOOK_S):
            if self._is_timed():
                continue
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


def run_ours(
    work: Path, reward_model: Path, size: Size, *, num_rounds: int, is_warm: bool
) -> list[Table]:
    """Returns a whole run's rounds from the second on; memory comes from the first and one more."""
    work.mkdir()
    rounds = work / "round/rounds"
    config, prompts = work / "round.toml", work / "questions.jsonl"
    asked = questions(size.num_prompts * (num_rounds + 1))
    prompts.write_text("".join(json.dumps({"question": each}) + "\n" for each in asked))
    config.write_text(
        RUN_FILE.format(
            policy=SMOLLM2,
            prompts=prompts,
            num_rounds=num_rounds + 1,
            size=size,
            python=VLLM_PYTHON,
            reward_model=reward_model,
            batch_size=BATCH_SIZE,
            num_threads=NUM_THREADS,
            is_warm=str(is_warm).lower(),
        )
    )
    watch = MemoryWatch(
        lambda: (rounds / "0002").exists() and not (rounds / f"{num_rounds + 1:04d}").exists()
    )
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
    timed = [one_round(work / "round", number) for number in range(2, num_rounds + 1)]
    return [{**each, "peak_bytes": peaks} for each in timed]


def one_round(run: Path, number: int) -> Table:
    """Measures from the end of the round before to its own, by the journal; phases by the
    attempts'.
    """
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
        "tokens": num_tokens(run / f"rounds/{number:04d}", stages),
        "checkpoint_bytes": sum(file["bytes"] for file in manifest["files"]),
    }


def num_tokens(directory: Path, stages: Table) -> dict[str, float]:
    """Counts the tokens that were sampled, scored, trained on and went through a model for the KL.

    A prompt's are counted once for its completions, which share them. The reference sees what is
    trained on; the KL is of as many completions as prompts, under the policy and the initial one.
    """
    attempts = {name: directory / name / f"attempt_{e['attempt']}" for name, e in stages.items()}
    groups, pairs = (
        [json.loads(row) for row in path.read_text().splitlines()]
        for path in (attempts["sample"] / "completions.jsonl", attempts["label"] / "feedback.jsonl")
    )
    prompts = sum(len(group["prompt_token_ids"]) for group in groups)
    completions = [len(each["token_ids"]) for group in groups for each in group["completions"]]
    group_size = len(completions) / len(groups)
    return {
        "sampled": sum(completions),
        "scored": prompts + sum(completions),
        "trained": sum(
            len(pair["prompt_token_ids"])
            + sum(len(pair[side]["token_ids"]) for side in ("chosen", "rejected"))
            for pair in pairs
        ),
        "kl": 2 * (prompts + sum(completions) / group_size),
    }


def by_phase(attempt: Path) -> dict[str, float]:
    events = [json.loads(line) for line in (attempt / "events.jsonl").read_text().splitlines()]
    names = [event["phase"] for event in events if event["type"] == "PhaseChanged"]
    return {name: phase_seconds(attempt, (name,)) for name in names}

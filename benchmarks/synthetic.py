"""Makes what the benchmarks measure on: a small random Llama, ragged prompts and completions, jobs.

It is no benchmark itself. Every measured program is a process of its own, so that peak memory is
its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 16384
CONTEXT = 1024
LLAMA_6_256 = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
TEMPLATE = (
    "{% for m in messages %}{{ 'w1 ' + m['content'] + ' w2 ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'w3 ' }}{% endif %}"
)


@dataclass(frozen=True)
class Measured:
    """Describes one finished process."""

    stdout: str
    wall_s: float
    peak_bytes: int


def measure(
    command: Sequence[str | Path],
    *,
    num_threads: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> Measured:
    """Runs a command to its end with so many torch threads. Raises when it fails."""
    started = time.monotonic()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "OMP_NUM_THREADS": str(num_threads), "TOKENIZERS_PARALLELISM": "false"},
    )
    assert child.stdout is not None
    stdout = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with exit code {child.returncode}")
    return Measured(stdout, time.monotonic() - started, usage.ru_maxrss * 1024)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def make_model(
    path: Path,
    *,
    classifier: bool = False,
    shape: Mapping[str, Any] = LLAMA_6_256,
    dtype: str = "float32",
) -> None:
    """Makes a random Llama, by default of 6 layers, 256 wide, and a tokenizer of 16,384 words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        PreTrainedTokenizerFast,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        num_labels=1,
    )
    kind = LlamaForSequenceClassification if classifier else LlamaForCausalLM
    kind(config).to(getattr(torch, dtype)).save_pretrained(path)
    vocabulary = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="w1",
        eos_token="w2",
        pad_token="w0",
        chat_template=TEMPLATE,
    ).save_pretrained(path)


def ragged(random_numbers: random.Random, low: int, high: int) -> list[int]:
    """Returns word ids; lengths are skewed to the short side, as prompts and completions are."""
    length = low + int((high - low) * random_numbers.random() ** 2)
    return [random_numbers.randrange(4, VOCABULARY) for _ in range(length)]


def words(ids: Sequence[int]) -> str:
    return " ".join(f"w{i}" for i in ids)


def settings(model: Path, work: Path, **tables: Any) -> dict[str, Any]:
    """Returns resolved settings as plain JSON; `tables` are merged over the ones all benchmarks
    share.
    """
    from halos_backend.config.schema import RunSettings

    table: dict[str, Any] = {
        "policy": {"path": str(model)},
        "prompts": {"path": str(work / "prompts.jsonl")},
        "label": {
            "judge": {"kind": "function", "function": str(work / "judge.py:reward")},
            "feedback": {"kind": "pairwise"},
        },
        "train": {"loss": {"kind": "dpo"}},
        "launch": {"num_threads": 1, "device": "cpu"},
    }
    for name, values in tables.items():
        table[name] = {**table.get(name, {}), **values}
    return RunSettings.model_validate(table).model_dump(mode="json")


def run_stage(stage: str, attempt_dir: Path, inputs: Any, resolved: dict[str, Any]) -> Measured:
    """Runs one of our stages on a fresh attempt directory."""
    from halos_backend.interpreters.programs import KEEPING_MEMORY
    from halos_backend.store.job import Job, write_job
    from halos_backend.store.run_dir import AttemptDir

    attempt_dir.mkdir(parents=True)
    job = Job(
        run="benchmark",
        round=1,
        stage=stage,  # type: ignore[arg-type]
        attempt=1,
        seed=0,
        num_threads=1,
        num_processes=1,
        settings=resolved,
        inputs=inputs,
    )
    write_job(AttemptDir(attempt_dir).job, job)
    command = [sys.executable, "-m", f"halos_backend.stages.{stage}"]
    return measure(
        [*command, "--attempt-dir", str(attempt_dir)],
        environment={**os.environ, **KEEPING_MEMORY},
    )


def phase_seconds(attempt_dir: Path, phases: Sequence[str]) -> float:
    """Returns the seconds that an attempt spent in phases that begin with one of these words."""
    events = [json.loads(line) for line in (attempt_dir / "events.jsonl").read_text().splitlines()]
    changes = [event for event in events if event["type"] == "PhaseChanged"]
    ends = [event["t"] for event in changes[1:]] + [events[-1]["t"]]
    return sum(
        end - event["t"]
        for event, end in zip(changes, ends, strict=True)
        if event["phase"].startswith(tuple(phases))
    )

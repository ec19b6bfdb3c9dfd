"""Samples with a vLLM that stays loaded; `sample_vllm.py` runs it in vLLM's own environment.

`python vllm_sampler.py ours|theirs`; the first line on standard input is the JSON of a `job`, every
further one asks for one run. Each is answered by a line {"seconds", "tokens"} on descriptor 3.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def make_ours(job: dict[str, Any]) -> Callable[[int], int]:
    """Makes our whole sample stage: engine, seeds, texts, groups on disk."""
    from halos_backend.stages.runtime import open_attempt
    from halos_backend.stages.sample.engine_cache import EngineCache
    from halos_backend.stages.sample.stage import sample_round
    from halos_backend.store.job import Job, SampleInputs, write_job
    from halos_backend.store.run_dir import AttemptDir

    cache = EngineCache()
    model = job["model"]
    inputs = SampleInputs(model, 0, job["prompts"], 0, job["num_prompts"], model)

    def run(number: int) -> int:
        directory = AttemptDir(Path(job["work"]) / f"attempt_{number}")
        directory.path.mkdir()
        threads = job["num_threads"]
        write_job(
            directory.job,
            Job("benchmark", number, "sample", 1, 0, threads, 1, job["settings"], inputs),
        )
        return int(sample_round(open_attempt(directory.path, stays=True), cache).summary.num_tokens)

    return run


def make_theirs(job: dict[str, Any]) -> Callable[[int], int]:
    """Makes `LLM.generate`, as vLLM's documentation has it."""
    import torch
    from vllm import LLM, SamplingParams

    torch.set_num_threads(job["num_threads"])
    rows = [json.loads(line)["token_ids"] for line in Path(job["prompts"]).read_text().splitlines()]
    sample = job["settings"]["sample"]
    llm = LLM(
        model=job["model"],
        dtype="float32",
        max_model_len=max(map(len, rows)) + sample["max_new_tokens"],
        enforce_eager=True,
        disable_log_stats=True,
        kv_cache_memory_bytes=1 << 30,
    )

    def run(number: int) -> int:
        parameters = SamplingParams(
            n=sample["group_size"],
            temperature=sample["temperature"],
            top_p=sample["top_p"],
            max_tokens=sample["max_new_tokens"],
            seed=number if job["is_seeded"] else None,
        )
        prompts: list[Any] = [{"prompt_token_ids": row} for row in rows]
        made = llm.generate(prompts, parameters, use_tqdm=False)
        return sum(len(part.token_ids) for output in made for part in output.outputs)

    return run


def main() -> None:
    answers = os.fdopen(3, "w")
    job = json.loads(sys.stdin.readline())
    run = {"ours": make_ours, "theirs": make_theirs}[sys.argv[1]](job)
    for number, _ in enumerate(sys.stdin):
        started = time.monotonic()
        tokens = run(number)
        answers.write(json.dumps({"seconds": time.monotonic() - started, "tokens": tokens}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

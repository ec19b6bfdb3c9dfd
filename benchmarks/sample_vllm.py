"""Compares our whole stage with vLLM's own `LLM.generate`; prints one JSON object.

Needs what `make test-vllm` sets up. Same policy (SmolLM2-135M, fp32), prompts, limits and threads;
each in a process of its own that stays loaded, taking turns. Ours seeds every completion by itself,
which costs a generator a row, and writes groups down; theirs does neither (`n` completions a
prompt), but for the seeds with `--seeded`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from synthetic import median, settings

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-vllm/bin/python"
SMOLLM2 = ROOT / ".cache/smollm2"
DRIVER = Path(__file__).with_name("vllm_sampler.py")
NUM_PROMPTS = 16
GROUP_SIZE = 4
MAX_NEW_TOKENS = 64
NUM_THREADS = 2
PAIRS_OF_RUNS = 5


class Sampler:
    """Holds one of the two, loaded."""

    def __init__(self, kind: str, job: dict[str, Any]) -> None:
        from halos_backend.interpreters.programs import KEEPING_MEMORY, program_environment

        reads, writes = os.pipe()
        environment = {
            **program_environment(python=str(PYTHON)),
            **(KEEPING_MEMORY if kind == "ours" else {}),
            "OMP_NUM_THREADS": str(NUM_THREADS),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "TORCH_COMPILE_DISABLE": "1",
        }
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "$0" "$@" 3>&{writes} >/dev/null', PYTHON, DRIVER, kind],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            pass_fds=(writes,),
        )
        os.close(writes)
        self._answers = os.fdopen(reads)
        self._say(json.dumps(job))

    def run(self) -> tuple[float, float]:
        """Returns tokens per second, and seconds."""
        self._say("run")
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"a sampler ended with exit code {self._process.wait()}")
        answer = json.loads(line)
        return answer["tokens"] / answer["seconds"], answer["seconds"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def write_prompts(path: Path) -> None:
    """Writes prompts of 10 to 100 tokens, drawn from the common words of SmolLM2's vocabulary."""
    from halos_backend.records import Prompt, write_rows

    numbers = random.Random(0)
    rows = []
    for i in range(NUM_PROMPTS):
        ids = tuple(numbers.randrange(300, 5000) for _ in range(numbers.randint(10, 100)))
        rows.append(Prompt(str(i), ({"role": "user", "content": "a prompt"},), ids))
    write_rows(path, rows)


def main() -> None:
    if not PYTHON.is_file() or not (SMOLLM2 / "config.json").is_file():
        raise SystemExit("run `make test-vllm` first: it sets up vLLM and SmolLM2")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_prompts(work / "prompts.jsonl")
        sample = {
            "engine": "vllm",
            "group_size": GROUP_SIZE,
            "max_new_tokens": MAX_NEW_TOKENS,
            "temperature": 1.0,
            "top_p": 1.0,
        }
        job = {
            "model": str(SMOLLM2),
            "work": folder,
            "prompts": str(work / "prompts.jsonl"),
            "num_prompts": NUM_PROMPTS,
            "num_threads": NUM_THREADS,
            "is_seeded": "--seeded" in sys.argv[1:],
            "settings": settings(
                SMOLLM2, work, sample=sample, launch={"num_threads": NUM_THREADS, "device": "cpu"}
            ),
        }
        samplers = [Sampler(kind, job) for kind in ("ours", "theirs")]
        for sampler in samplers:
            sampler.run()  # loads, and warms up
        runs = [[sampler.run() for sampler in samplers] for _ in range(PAIRS_OF_RUNS)]
        for sampler in samplers:
            sampler.close()
    ours, theirs = ([speed for speed, _ in column] for column in zip(*runs, strict=True))
    print(
        json.dumps(
            {
                "benchmark": "sample_vllm",
                "is_seeded": job["is_seeded"],
                "completions": NUM_PROMPTS * GROUP_SIZE,
                "stage_seconds": median([run[0][1] for run in runs]),
                "tokens_per_s": median(ours),
                "llm_generate_tokens_per_s": median(theirs),
                "speed_ratio": median([o / t for o, t in zip(ours, theirs, strict=True)]),
            }
        )
    )


if __name__ == "__main__":
    main()

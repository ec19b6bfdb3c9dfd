"""A worker on the GPU: executes attempts one after the other and parks after each, like `serving`.

`python gpu_worker.py STAGE ATTEMPT_DIR...` prints a line of JSON for each: bytes of the GPU that
torch holds for tensors at the most, and after parking.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.stage import execute as label
from halos_backend.stages.runtime import Attempt, StageResult, open_attempt
from halos_backend.stages.sample.__main__ import SampleStage
from halos_backend.stages.train.__main__ import TrainStage
from halos_backend.store.manifest import write_done

ROOT = Path(__file__).resolve().parents[2]
Stage = tuple[Callable[[Attempt], StageResult], Callable[[], None]]


@dataclass(frozen=True)
class Held:
    """Bytes of the GPU's memory."""

    at_most: int
    parked: int


def run_on_gpu(stage: str, *attempts: Path) -> list[Held]:
    """Execute the attempts in one process of their own, up to DONE."""
    ended = subprocess.run(
        [sys.executable, __file__, stage, *map(str, attempts)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["backend", "."])},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [Held(**json.loads(line)) for line in ended.stdout.splitlines()]


def main(stage: str, *attempts: str) -> None:
    execute, park = stage_of(stage)
    for path in attempts:
        torch.cuda.reset_peak_memory_stats()
        attempt = open_attempt(Path(path), stays=True)
        result = execute(attempt)
        write_done(
            attempt.directory.path, result.outputs, result.summary.as_json(), seals=attempt.seals
        )
        held = torch.cuda.max_memory_allocated()
        park()
        print(json.dumps({"at_most": held, "parked": torch.cuda.memory_allocated()}))  # noqa: T201


def stage_of(name: str) -> Stage:
    """What executes an attempt, and what parks."""
    if name == "label":
        cache = JudgeCache()
        return partial(label, cache=cache), cache.park
    stage = SampleStage() if name == "sample" else TrainStage()
    return stage, stage.park


if __name__ == "__main__":
    main(*sys.argv[1:])

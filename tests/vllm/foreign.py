"""Runs our code under vLLM's python, as the supervisor would."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halos_backend.interpreters.foreign import foreign_environment, in_interpreter
from halos_backend.store.run_dir import AttemptDir
from halos_backend.supervisor.launch import ATTEMPT_TAG, stage_command

DRIVER = Path(__file__).with_name("drive_engine.py")


def start(directory: AttemptDir, python: str) -> subprocess.Popen[bytes]:
    """The sample stage of an attempt directory, with its log."""
    with directory.log.open("wb") as log:
        return subprocess.Popen(
            in_interpreter(stage_command("sample", directory.path, 1), python),
            env={**environment(), ATTEMPT_TAG: str(directory.path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def sample(directory: AttemptDir, python: str) -> None:
    """To its end, which must be a good one."""
    assert start(directory, python).wait(timeout=240) == 0, directory.log.read_text()[-3000:]


def greedy(
    python: str, policies: Sequence[Path], prompts: Sequence[Sequence[int]], *, max_new_tokens: int
) -> list[list[list[int]]]:
    """Tokens after each prompt under each policy, by one engine that takes one after another."""
    asked = {
        "policies": [str(path) for path in policies],
        "prompts": [list(prompt) for prompt in prompts],
        "max_new_tokens": max_new_tokens,
    }
    done = subprocess.run(
        [python, str(DRIVER), json.dumps(asked)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[list[list[int]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def environment() -> dict[str, str]:
    return {**foreign_environment(os.environ), "OMP_NUM_THREADS": "1"}


def summary_of(directory: AttemptDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(directory.done.read_bytes())["summary"]
    return found

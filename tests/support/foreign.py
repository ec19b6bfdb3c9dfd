"""Runs our code under vLLM's python, as the supervisor would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halos_backend.events import Stage
from halos_backend.interpreters.programs import (
    ATTEMPT_TAG,
    in_interpreter,
    program_environment,
)
from halos_backend.store.run_dir import AttemptDir
from halos_backend.supervisor.processes.commands import stage_command

DRIVER = Path(__file__).with_name("drive_engine.py")

GIVES_PROBABILITIES = """
try:
    from halos_backend.stages.label import vllm_judge
    parameters = vllm_judge.PoolingParams
    vllm_judge.PoolingParams = lambda **given: parameters(**{**given, "use_activation": True})
except ImportError:
    pass
"""
"""A judge as vLLM makes it unless it is told otherwise."""


def start(
    directory: AttemptDir, python: str, *, stage: Stage = "sample"
) -> subprocess.Popen[bytes]:
    """The stage of an attempt directory, with its log."""
    with directory.log.open("wb") as log:
        return subprocess.Popen(
            in_interpreter(stage_command(stage, directory.path, 1), python),
            env={**environment(), ATTEMPT_TAG: str(directory.path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def sample(directory: AttemptDir, python: str) -> None:
    """To its end, which must be a good one."""
    finish(directory, start(directory, python))


def label(path: Path, python: str) -> None:
    """To its end, which must be a good one."""
    directory = AttemptDir(path)
    finish(directory, start(directory, python, stage="label"))


def finish(directory: AttemptDir, process: subprocess.Popen[bytes]) -> None:
    assert process.wait(timeout=240) == 0, directory.log.read_text()[-3000:]


def changed_python(folder: Path, python: str, code: str) -> str:
    """A python that runs `code` before everything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}:$PYTHONPATH" exec {python} "$@"\n')
    program.chmod(0o755)
    return str(program)


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
    return {**program_environment(python="vLLM's"), "OMP_NUM_THREADS": "1"}


def summary_of(directory: AttemptDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(directory.done.read_bytes())["summary"]
    return found

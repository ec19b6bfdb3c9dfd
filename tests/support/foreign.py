"""Runs our code under vLLM's python, as the supervisor would."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from halos_backend.events import Stage
from halos_backend.interpreters.programs import (
    ATTEMPT_TAG,
    importable_folder,
    in_interpreter,
    program_environment,
)
from halos_backend.store.handover import read_exit_code, write_task
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.supervisor.processes.commands import stage_command, worker_command

from tests.support.forks import forking_python
from tests.support.waiting import wait_for

CHANGE = "HALOS_TEST_CHANGE"
"""See `fork_server.py`."""

LIBRARIES = (
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "vllm.engine.arg_utils",
    "vllm.lora.worker_manager",
    "vllm.model_executor.layers.quantization.online.base",
    "vllm.model_executor.model_loader.default_loader",
    "vllm.model_executor.models.adapters",
    "vllm.model_executor.models.llama",
    "vllm.renderers.hf",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.v1.core.sched.scheduler",
    "vllm.v1.engine.llm_engine",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_worker",
)
"""What an engine on a CPU comes to import."""

GIVES_PROBABILITIES = """
from halos_backend.stages.label import vllm_judge
parameters = vllm_judge.PoolingParams
vllm_judge.PoolingParams = lambda **given: parameters(**{**given, "use_activation": True})
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


def preloaded(python: str) -> str:
    """Stands for the python: what it starts has imported vLLM, and nothing yet of our stages."""
    return forking_python(python, LIBRARIES, str(importable_folder()))


@contextlib.contextmanager
def worker(run: RunDir, python: str, *, stage: Stage) -> Iterator[Callable[[AttemptDir], None]]:
    """A stage's program that stays. What is yielded hands it an attempt, which must end well."""
    home = run.worker(stage)
    home.path.mkdir(parents=True)
    with home.log.open("wb") as log:
        process = subprocess.Popen(
            in_interpreter(worker_command(stage, home.path, 1), python),
            env={**environment(), ATTEMPT_TAG: str(home.path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def hand_over(attempt: AttemptDir) -> None:
        write_task(home.task, attempt.path)
        wait_for(lambda: attempt.exit.exists() or process.poll() is not None)
        said = attempt.log if attempt.log.exists() else home.log
        assert read_exit_code(attempt) == 0, said.read_text()[-3000:]

    ended = threading.Event()
    supervisor = threading.Thread(target=beat, args=(run.heartbeat, ended))
    supervisor.start()
    try:
        yield hand_over
    finally:
        ended.set()
        supervisor.join()
        process.kill()
        process.wait()


def beat(heartbeat: Path, ended: threading.Event) -> None:
    """As a supervisor does, without which a worker would leave."""
    number = 0
    while not ended.wait(1.0):
        number += 1
        heartbeat.write_text(f"{number}\n")


def changed_python(folder: Path, python: str, code: str) -> str:
    """A preloaded python whose stages run `code` before everything else."""
    folder.mkdir()
    change = folder / "change.py"
    change.write_text(code)
    return _program(folder, f'{CHANGE}="{change}" exec {python} "$@"')


def changed_plain_python(folder: Path, python: str, code: str) -> str:
    """A python that runs `code` before everything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return _program(folder, f'PYTHONPATH="{folder}:$PYTHONPATH" exec {python} "$@"')


def _program(folder: Path, script: str) -> str:
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def environment() -> dict[str, str]:
    return {**program_environment(python="vLLM's"), "OMP_NUM_THREADS": "1"}


def summary_of(directory: AttemptDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(directory.done.read_bytes())["summary"]
    return found

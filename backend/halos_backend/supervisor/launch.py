"""Makes the command line and the environment of a stage's process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from halos_backend.config.schema import LaunchSettings, RunSettings
from halos_backend.errors import UsageError
from halos_backend.events import Stage
from halos_backend.interpreters.device import has_nvidia_device, shown_gpus, visible_gpus
from halos_backend.interpreters.foreign import foreign_environment, in_interpreter
from halos_backend.supervisor.environment import importable_environment

ATTEMPT_TAG = "HALOS_ATTEMPT_DIR"
"""In the environment of every process of a stage, so that the whole tree can be found."""

KEEPING_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""For glibc: on a CPU each large tensor would be given back to the kernel as it is freed, and its
pages be faulted in again for the next one, which is a tenth of a training step."""

MULTI_PROCESS_STAGES: frozenset[Stage] = frozenset({"label", "train"})


def stage_command(stage: Stage, attempt_dir: Path, num_processes: int) -> list[str]:
    """torchrun stands before a stage of several processes only; it costs 2 s a start."""
    module = ["-m", f"halos_backend.stages.{stage}", "--attempt-dir", str(attempt_dir)]
    if num_processes == 1:
        return [sys.executable, *module]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    return [sys.executable, *launcher, str(num_processes), *module]


def worker_command(stage: Stage, worker_dir: Path) -> list[str]:
    """Of a stage's program that stays between rounds."""
    return [sys.executable, "-m", f"halos_backend.stages.{stage}", "--worker", str(worker_dir)]


def num_stage_processes(stage: Stage, settings: RunSettings) -> int:
    """A function needs neither ranks nor the launcher's 2 s; vLLM spreads a model by itself."""
    judge = settings.label.judge
    if stage == "label" and (judge.kind == "function" or judge.engine == "vllm"):
        return 1
    return settings.launch.num_processes if stage in MULTI_PROCESS_STAGES else 1


def planned_command(stage: Stage, attempt_dir: Path, settings: RunSettings) -> list[str]:
    """Of a stage that ends with its attempt, in the interpreter that it is to run in."""
    command = stage_command(stage, attempt_dir, num_stage_processes(stage, settings))
    return in_interpreter(command, stage_python(stage, settings))


def stage_python(stage: Stage, settings: RunSettings) -> str | None:
    """The interpreter that the stage runs in; None is our own."""
    match stage:
        case "sample":
            return settings.sample.python
        case "label":
            return settings.label.python
        case "train":
            return None


def stage_environment(
    attempt_dir: Path,
    launch: LaunchSettings,
    environment: Mapping[str, str],
    *,
    python: str | None = None,
) -> dict[str, str]:
    """The supervisor's environment, and what a stage must not guess.

    `python` is the stage's interpreter where it is not ours.
    """
    importable = importable_environment if python is None else foreign_environment
    made = {
        **importable(environment),
        ATTEMPT_TAG: str(attempt_dir),
        "PYTHONUNBUFFERED": "1",
        # torch elastic would take SIGHUP for a reason to stop; a closed terminal is none
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGQUIT",
    }
    if launch.device == "cpu" or not has_nvidia_device():
        made = {**KEEPING_MEMORY, **made, "ACCELERATE_USE_CPU": "true"}
    if launch.devices is not None:
        if "CUDA_VISIBLE_DEVICES" not in environment:
            made["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbers are those of nvidia-smi
        made["CUDA_VISIBLE_DEVICES"] = ",".join(device_names(launch, environment))
    return made


def device_names(
    launch: LaunchSettings, environment: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """The run's GPUs as CUDA_VISIBLE_DEVICES names them: numbers, or GPU-uuids; () where it takes
    what there is.

    `launch.devices` counts the GPUs that the environment's own CUDA_VISIBLE_DEVICES shows, as CUDA
    does; without one, all of the machine in nvidia-smi's order. Raises UsageError for a GPU that it
    does not show.
    """
    if launch.devices is None:
        return ()
    shown = shown_gpus(environment)
    hidden = [number for number in launch.devices if shown is not None and number >= len(shown)]
    if shown is not None and hidden:
        visible = environment["CUDA_VISIBLE_DEVICES"]
        raise UsageError(
            f"launch.devices: CUDA_VISIBLE_DEVICES = {visible!r} shows {len(shown)} GPUs, counted"
            f" from 0, and so no GPU {hidden[0]}"
        )
    return visible_gpus(launch, environment) or ()

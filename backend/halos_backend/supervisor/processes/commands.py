"""Makes the command line of a stage's process; stands alone because a dry run prints it too."""

from __future__ import annotations

from pathlib import Path

from halos_backend.config.schema import RunSettings
from halos_backend.events import Stage
from halos_backend.interpreters.programs import in_interpreter, program

MULTI_PROCESS_STAGES: frozenset[Stage] = frozenset({"label", "train"})


def stage_command(stage: Stage, attempt_dir: Path, num_processes: int) -> list[str]:
    """Returns a stage's command; torchrun stands before one of several processes only, as it costs
    2 s a start.
    """
    module = f"halos_backend.stages.{stage}"
    if num_processes == 1:
        return program(module, "--attempt-dir", attempt_dir)
    launcher = program("torch.distributed.run", "--standalone", "--nproc_per_node", num_processes)
    return [*launcher, "-m", module, "--attempt-dir", str(attempt_dir)]


def worker_command(stage: Stage, worker_dir: Path, num_threads: int) -> list[str]:
    """Returns the command of a program that stays between rounds.

    Its libraries take their number of threads when they are imported.
    """
    module = f"halos_backend.stages.{stage}"
    return program(module, "--worker", worker_dir, "--num-threads", num_threads)


def num_stage_processes(stage: Stage, settings: RunSettings) -> int:
    """Returns the number of processes: a function or an API needs neither ranks nor the launcher's
    2 s; vLLM spreads a model by itself.
    """
    judge = settings.label.judge
    if stage == "label" and (judge.kind != "reward_model" or judge.engine == "vllm"):
        return 1
    return settings.launch.num_processes if stage in MULTI_PROCESS_STAGES else 1


def planned_command(stage: Stage, attempt_dir: Path, settings: RunSettings) -> list[str]:
    """Returns the command of a stage that ends with its attempt, in the interpreter that it is to
    run in.
    """
    command = stage_command(stage, attempt_dir, num_stage_processes(stage, settings))
    return in_interpreter(command, stage_python(stage, settings))


def stage_python(stage: Stage, settings: RunSettings) -> str | None:
    """Returns the interpreter that the stage runs in; None is our own."""
    match stage:
        case "sample":
            return settings.sample.python
        case "label":
            return settings.label.python
        case "train":
            return None

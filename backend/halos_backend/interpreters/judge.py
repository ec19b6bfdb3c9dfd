"""Which engine a reward model scores with, and why.

vLLM has to be asked for, and where it cannot be, transformers scores: the stage decides that for
itself and warns. `check_judge_engine` asks beforehand.
"""

from __future__ import annotations

import sys

from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.interpreters.device import Device, device_of
from halos_backend.interpreters.engine_choice import (
    EngineChoice,
    Vllm,
    ask_stage,
    find_build_obstacle,
    installed_vllm,
)
from halos_backend.interpreters.foreign import check_requirements, examine_interpreter

CHECK = "halos_backend.stages.label.check"
PYTHON = "label.python"
WITHOUT = "label.judge.engine = 'transformers' needs no vLLM"
ASKED_FOR = "label.judge.engine asks for it"


def decide(vllm: Vllm | None, *, device: Device, transformers: str, program: str) -> EngineChoice:
    """The engine where vLLM is asked for, by what `program` has and what it computes on.

    Whether vLLM has the reward model is not asked here.
    """
    obstacle, fix = find_build_obstacle(vllm, device, program, setting=PYTHON)
    if vllm is None or obstacle:
        return EngineChoice("transformers", transformers, f"{obstacle}; {fix}")
    return EngineChoice("vllm", vllm.version, ASKED_FOR)


def wants_vllm(settings: RunSettings) -> bool:
    """Whether a reward model is to be scored with vLLM."""
    judge = settings.label.judge
    return isinstance(judge, RewardModelJudge) and judge.engine == "vllm"


def check_judge_engine(settings: RunSettings) -> EngineChoice | None:
    """The choice that the label stage is going to make; None where vLLM is not asked for.

    Where vLLM is there it is imported in a process of its own, which takes some seconds. Raises
    UsageError, with the fix, for an interpreter that no stage can run in.
    """
    if not wants_vllm(settings):
        return None
    python = settings.label.python
    found = examine_interpreter(python, setting=PYTHON)
    if python is not None:
        check_requirements(python, found, setting=PYTHON)
    choice = decide(
        installed_vllm(found.packages),
        device=device_of(settings.launch),
        transformers=found.packages.get("transformers", ""),
        program=python or sys.executable,
    )
    if choice.engine == "transformers":
        return choice
    return ask_stage(CHECK, settings, python, without=WITHOUT)

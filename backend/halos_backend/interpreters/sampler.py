"""Which engine samples, and why: decided from settings, from what is installed, and the device.

The stage decides for itself, in its own interpreter. `check_sampler` asks beforehand, so that a run
does not begin with a sampler that cannot be.
"""

from __future__ import annotations

import sys

from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.device import Device, device_of
from halos_backend.interpreters.engine_choice import (
    EngineChoice,
    Vllm,
    ask_stage,
    find_build_obstacle,
    installed_vllm,
)
from halos_backend.interpreters.foreign import check_requirements, examine_interpreter

CHECK = "halos_backend.stages.sample.check"
PYTHON = "sample.python"
WITHOUT = "sample.engine = 'transformers' needs no vLLM"


def decide(
    engine: str, vllm: Vllm | None, *, device: Device, transformers: str, program: str
) -> EngineChoice:
    """The engine for `sample.engine`, by what `program` has installed and what it computes on.

    Whether vLLM can hold the policy is not asked here. Raises UsageError where vLLM was asked for
    and cannot be.
    """
    if engine == "transformers":
        return EngineChoice("transformers", transformers, "sample.engine asks for it")
    obstacle, fix = find_build_obstacle(vllm, device, program, setting=PYTHON)
    if vllm is None or obstacle:
        if engine == "vllm":
            raise UsageError(f"sample.engine = 'vllm': {obstacle}; {fix}. {WITHOUT}")
        return EngineChoice("transformers", transformers, obstacle)
    reason = "sample.engine asks for it" if engine == "vllm" else f"it is there for the {device}"
    return EngineChoice("vllm", vllm.version, reason)


def check_sampler(settings: RunSettings) -> EngineChoice:
    """The choice that the sample stage is going to make. Raises UsageError with the fix.

    Where vLLM is going to sample, it is imported in a process of its own, which takes some seconds.
    """
    python = settings.sample.python
    if python is None and settings.sample.engine == "transformers":
        return EngineChoice("transformers", "", "sample.engine asks for it")
    found = examine_interpreter(python, setting=PYTHON)
    if python is not None:
        check_requirements(python, found, setting=PYTHON)
    choice = decide(
        settings.sample.engine,
        installed_vllm(found.packages),
        device=device_of(settings.launch),
        transformers=found.packages.get("transformers", ""),
        program=python or sys.executable,
    )
    if choice.engine == "transformers":
        return choice
    return ask_stage(CHECK, settings, python, without=WITHOUT)

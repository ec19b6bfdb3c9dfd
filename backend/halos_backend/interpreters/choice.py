"""Which engine a stage takes, and why; and how the stage's own code is asked for it beforehand, in
its own interpreter.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import msgspec

from halos_backend.config.schema import RunSettings
from halos_backend.errors import HalosError, UsageError
from halos_backend.interpreters.programs import in_interpreter, program, program_environment

CHECK_TIMEOUT_S = 300.0


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

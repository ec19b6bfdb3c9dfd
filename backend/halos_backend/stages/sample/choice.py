"""Chooses the engine of a sample stage, in the interpreter that is going to sample."""

from __future__ import annotations

import sys

from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.device import device_of
from halos_backend.interpreters.engine_choice import EngineChoice, installed_vllm
from halos_backend.interpreters.probe import look_for
from halos_backend.interpreters.sampler import WITHOUT, decide
from halos_backend.stages.models import load_config, surplus_weights
from halos_backend.stages.runtime import importing
from halos_backend.stages.vllm.environment import NOT_IMPORTED


def choose_engine(settings: RunSettings, policy: str) -> EngineChoice:
    """The engine for the policy at `policy`, and why. Loads no weights.

    Raises UsageError for a vLLM that was asked for and cannot be, and for engine arguments that it
    does not have.
    """
    versions = look_for(["transformers"])
    asked = settings.sample.engine
    choice = decide(
        asked,
        installed_vllm(versions),
        device=device_of(settings.launch),
        transformers=versions["transformers"],
        program=sys.executable,
    )
    if choice.engine == "transformers":
        return choice
    obstacle = _find_obstacle(settings, policy)
    if obstacle is None:
        return choice
    if asked == "vllm":
        raise UsageError(f"sample.engine = 'vllm': {obstacle}. {WITHOUT}")
    return EngineChoice("transformers", versions["transformers"], obstacle)


def _find_obstacle(settings: RunSettings, policy: str) -> str | None:
    """Why the vLLM that is there cannot sample; None where nothing is known. Raises UsageError."""
    if (name := surplus_weights(policy)) is not None:
        return f"vLLM would read {name} in {policy} as weights; move it out of the directory"
    try:
        with importing("vllm"):
            from halos_backend.stages.vllm import support
    except NOT_IMPORTED as error:
        return f"vLLM in {sys.executable} cannot be imported: {error}; install it anew"
    support.check_arguments(settings.sample.vllm, table="sample.vllm")
    config = load_config(policy, trust_remote_code=settings.policy.trust_remote_code)
    return support.find_obstacle(config, device_of(settings.launch))

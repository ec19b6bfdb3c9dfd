"""Chooses the engine of a sample stage, in the interpreter that is going to sample."""

from __future__ import annotations

import sys

from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.device import device_of
from halos_backend.interpreters.probe import look_for
from halos_backend.interpreters.sampler import WITHOUT, SamplerChoice, decide, installed_vllm
from halos_backend.stages.models import load_config


def choose_engine(settings: RunSettings, policy: str) -> SamplerChoice:
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
    from halos_backend.stages.sample import vllm_support  # imports vLLM, which takes seconds

    vllm_support.check_arguments(settings.sample.vllm)
    config = load_config(policy, trust_remote_code=settings.policy.trust_remote_code)
    obstacle = vllm_support.find_obstacle(config, settings)
    if obstacle is None:
        return choice
    if asked == "vllm":
        raise UsageError(f"sample.engine = 'vllm': {obstacle}. {WITHOUT}")
    return SamplerChoice("transformers", versions["transformers"], obstacle)

"""Chooses the engine that a reward model scores with, in the interpreter that is going to score."""

from __future__ import annotations

import sys

from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.errors import StageError
from halos_backend.interpreters.device import device_of
from halos_backend.interpreters.engine_choice import EngineChoice, installed_vllm
from halos_backend.interpreters.judge import decide
from halos_backend.interpreters.probe import look_for
from halos_backend.stages.models import load_config, surplus_weights
from halos_backend.stages.runtime import importing
from halos_backend.stages.vllm.environment import NOT_IMPORTED, prepare_process

CLASSIFIER, LANGUAGE_MODEL = "ForSequenceClassification", "ForCausalLM"
"""vLLM makes classifiers of the language models that it has."""


def choose_engine(settings: RunSettings) -> EngineChoice:
    """The engine where vLLM is asked for, and why. Loads no weights.

    Raises UsageError for engine arguments that this vLLM does not have.
    """
    judge = settings.label.judge
    if not isinstance(judge, RewardModelJudge):
        raise StageError("label.judge is no reward model, and needs no engine")
    device, versions = device_of(settings.launch), look_for(["transformers"])
    choice = decide(
        installed_vllm(versions),
        device=device,
        transformers=versions["transformers"],
        program=sys.executable,
    )
    if choice.engine == "transformers":
        return choice
    if (name := surplus_weights(judge.path)) is not None:
        reason = f"vLLM would read {name} in {judge.path} as weights; move it out of the directory"
        return EngineChoice("transformers", versions["transformers"], reason)
    prepare_process(judge.vllm, device)
    try:
        with importing("vllm"):
            from halos_backend.stages.vllm import support
    except NOT_IMPORTED as error:
        reason = f"vLLM {choice.version} in {sys.executable} cannot be imported: {error}"
        return EngineChoice("transformers", versions["transformers"], reason)
    support.check_arguments(judge.vllm, table="label.judge.vllm")
    config = load_config(judge.path, trust_remote_code=judge.trust_remote_code)
    language_models = [
        name.replace(CLASSIFIER, LANGUAGE_MODEL) for name in config.architectures or ()
    ]
    obstacle = support.find_obstacle(config, device, alternatives=language_models)
    if obstacle is None:
        return choice
    return EngineChoice("transformers", versions["transformers"], obstacle)

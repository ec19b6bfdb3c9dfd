"""Chooses the engine of a stage, in the interpreter that is going to sample or score.

`python -m halos_backend.stages.vllm.choose sample|label` says it before a run begins: it reads the
run's settings as JSON on standard input, and its last line on standard output is an `EngineAnswer`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection

import msgspec

from halos_backend.config.engines import EngineSettings
from halos_backend.config.schema import RewardModelJudge, RunSettings
from halos_backend.errors import ExitCode, StageError, UsageError
from halos_backend.interpreters.device import device_of
from halos_backend.interpreters.engine_choice import (
    JUDGE,
    SAMPLER,
    EngineAnswer,
    EngineChoice,
    EngineUser,
    decide,
    installed_vllm,
    without_vllm,
)
from halos_backend.interpreters.probe import look_for
from halos_backend.stages.runtime import importing, set_threads
from halos_backend.stages.vllm.environment import (
    NOT_IMPORTED,
    check_devices,
    prepare_process,
    visible_devices,
)

CLASSIFIER, LANGUAGE_MODEL = "ForSequenceClassification", "ForCausalLM"
"""Name the endings of architectures: vLLM makes classifiers of the language models that it has."""


def choose_sampler(settings: RunSettings, policy: str) -> EngineChoice:
    """Chooses the engine for the policy at `policy`, and says why. Loads no weights.

    Raises UsageError for a vLLM that was asked for and cannot be, and for engine arguments that it
    does not have.
    """

    def find_obstacle() -> tuple[str, str]:
        return _find_obstacle(
            settings,
            policy,
            settings.sample.vllm,
            table="sample.vllm",
            trust_remote_code=settings.policy.trust_remote_code,
        )

    return _choose(SAMPLER, settings.sample.engine, settings, find_obstacle)


def choose_judge_engine(settings: RunSettings) -> EngineChoice:
    """Chooses the engine where vLLM is asked for, and says why. Loads no weights.

    Raises UsageError for engine arguments that this vLLM does not have.
    """
    judge = settings.label.judge
    if not isinstance(judge, RewardModelJudge):
        raise StageError("label.judge is no reward model, and needs no engine")

    def find_obstacle() -> tuple[str, str]:
        return _find_obstacle(
            settings,
            judge.path,
            judge.vllm,
            table="label.judge.vllm",
            trust_remote_code=judge.trust_remote_code,
            is_classifier=True,
        )

    return _choose(JUDGE, judge.engine, settings, find_obstacle)


def _choose(
    user: EngineUser,
    asked: str,
    settings: RunSettings,
    find_obstacle: Callable[[], tuple[str, str]],
) -> EngineChoice:
    versions = look_for(["transformers"])
    choice = decide(
        user,
        asked,
        installed_vllm(versions),
        device=device_of(settings.launch),
        transformers=versions["transformers"],
        program=sys.executable,
    )
    if choice.engine == "transformers":
        return choice
    obstacle, fix = find_obstacle()
    if not obstacle:
        return choice
    return without_vllm(user, asked, obstacle, fix=fix, transformers=versions["transformers"])


def _find_obstacle(
    settings: RunSettings,
    path: str,
    engine: EngineSettings,
    *,
    table: str,
    trust_remote_code: bool,
    is_classifier: bool = False,
) -> tuple[str, str]:
    """Says why the vLLM that is there cannot hold the model, and what to do; empty where nothing is
    known.
    """
    from halos_backend.stages.models import load_config, surplus_weights  # torch, after the threads

    if (name := surplus_weights(path)) is not None:
        return f"vLLM would read {name} in {path} as weights", "move it out of the directory"
    device = device_of(settings.launch)
    if is_classifier:
        prepare_process(engine, device)
    try:
        with importing("vllm"):
            from halos_backend.stages.vllm import support
    except NOT_IMPORTED as error:
        return f"vLLM in {sys.executable} cannot be imported: {error}", "install it anew"
    support.check_arguments(engine, table=table)
    config = load_config(path, trust_remote_code=trust_remote_code)
    names: Collection[str] = config.architectures or () if is_classifier else ()
    language_models = [name.replace(CLASSIFIER, LANGUAGE_MODEL) for name in names]
    return support.find_obstacle(config, device, alternatives=language_models) or "", ""


def check_sampler_here(settings: RunSettings) -> EngineChoice:
    """Returns the sampler's choice; raises UsageError also where there are too few GPUs for its
    engines.
    """
    from halos_backend.stages.sample.vllm_fleet import engine_environments

    choice = choose_sampler(settings, settings.policy.path)
    # of GPUs that are named the settings know whether they suffice; this process sees others
    if choice.engine == "vllm" and settings.launch.devices is None:
        engine_environments(settings, num_threads=1)
    return choice


def check_judge_here(settings: RunSettings) -> EngineChoice:
    """Returns the judge's choice; raises UsageError also where there are too few GPUs for its
    engine.
    """
    choice, device = choose_judge_engine(settings), device_of(settings.launch)
    if choice.engine == "vllm" and device != "cpu" and settings.launch.devices is None:
        judge = settings.label.judge
        assert isinstance(judge, RewardModelJudge)
        size, num_devices = judge.vllm.tensor_parallel_size, len(visible_devices(device))
        check_devices(1, size, num_devices, table="label.judge.vllm")
    return choice


def main(stage: str) -> None:
    """Prints what is chosen, or why nothing can be."""
    settings = RunSettings.model_validate_json(sys.stdin.buffer.read())
    set_threads(1)
    check = {"sample": check_sampler_here, "label": check_judge_here}[stage]
    try:
        answer = EngineAnswer(choice=check(settings))
    except UsageError as error:
        answer = EngineAnswer(refusal=error.text, fix=error.fix)
    sys.stdout.write("\n" + msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()
    os._exit(ExitCode.COMPLETED)


if __name__ == "__main__":
    main(sys.argv[1])

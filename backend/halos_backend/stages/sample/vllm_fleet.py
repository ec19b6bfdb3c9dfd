"""How many vLLM engines a round is spread over, and on which devices; one is in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.device import device_of
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.sample.replicated_engine import ReplicatedEngine
from halos_backend.stages.sample.sampling import Sampling
from halos_backend.stages.sample.vllm_arguments import engine_arguments
from halos_backend.stages.sample.weights import Weights
from halos_backend.stages.vllm.devices import check_devices, visible_devices
from halos_backend.stages.vllm.environment import prepare_process


@dataclass(frozen=True)
class Fleet:
    """`arguments` are the EngineArgs of every engine, `asked` those that a person has set;
    `environments` give each engine its devices.
    """

    arguments: dict[str, Any]
    environments: tuple[dict[str, str], ...]
    asked: frozenset[str] = frozenset()

    @property
    def shape(self) -> tuple[Any, ...]:
        """What an engine that is loaded cannot change."""
        # how much is cached follows from what memory is free at the time, unless a person says it
        free = {"model", "kv_cache_memory_bytes"} - self.asked
        arguments = {name: value for name, value in self.arguments.items() if name not in free}
        return arguments, self.environments


def plan_fleet(
    attempt: Attempt, config: PretrainedConfig, weights: Weights, *, num_tokens: int
) -> Fleet:
    """`num_tokens` are the most of prompt and completion together. Raises UsageError where there
    are fewer GPUs than the engines need.
    """
    settings = attempt.settings
    environments = engine_environments(settings, attempt.job.num_threads)
    arguments = engine_arguments(
        settings,
        config,
        weights,
        num_tokens=num_tokens,
        stays=attempt.stays,
        num_replicas=len(environments),
    )
    return Fleet(arguments, environments, frozenset(settings.sample.vllm.set_arguments))


def load_fleet(fleet: Fleet, weights: Weights, sampling: Sampling, settings: RunSettings) -> Any:
    """A VllmEngine in this process, or several behind a ReplicatedEngine."""
    prepare_process(settings.sample.vllm, device_of(settings.launch))
    if len(fleet.environments) > 1:
        return ReplicatedEngine(fleet.arguments, weights, sampling, settings, fleet.environments)
    from halos_backend.stages.sample.vllm_engine import VllmEngine  # imports vLLM

    return VllmEngine(fleet.arguments, weights, sampling)


def engine_environments(settings: RunSettings, num_threads: int) -> tuple[dict[str, str], ...]:
    """Of each engine: its devices, or its share of `num_threads`. Raises UsageError where there are
    fewer GPUs than the engines need.
    """
    vllm, device = settings.sample.vllm, device_of(settings.launch)
    if device == "cpu":
        count = vllm.replicas or 1
        threads = str(max(1, num_threads // count))
        return tuple({"OMP_NUM_THREADS": threads} for _ in range(count))
    devices, size = visible_devices(device), vllm.tensor_parallel_size
    count = vllm.replicas or max(1, len(devices) // size)
    check_devices(count, size, len(devices), table="sample.vllm")
    groups = [devices[start : start + size] for start in range(0, count * size, size)]
    return tuple({"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups)

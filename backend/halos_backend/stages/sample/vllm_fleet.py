"""Decides how many vLLM engines a round is spread over, on which devices, and their arguments.

A single engine runs in this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.device import device_of
from halos_backend.stages.model_limits import context_length
from halos_backend.stages.models import resolve_dtype
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.sample.choose_weights import Weights
from halos_backend.stages.sample.replicated_engine import ReplicatedEngine
from halos_backend.stages.sample.sampling import Sampling
from halos_backend.stages.vllm.environment import (
    cache_arguments,
    check_devices,
    num_blocks,
    prepare_process,
    visible_devices,
)

BATCHED_TOKENS = 4096
"""Is how many tokens vLLM computes at a time on a CPU."""
IN_PROGRESS = 256
"""Is how many completions vLLM works on at a time, unless `max_num_seqs` says otherwise."""
WORKER = "halos_backend.stages.sample.vllm_reload.ReloadingWorker"


@dataclass(frozen=True)
class Fleet:
    """Describes the engines of a round.

    `arguments` are the EngineArgs of every engine, `asked` those that a person has set;
    `environments` give each engine its devices.
    """

    arguments: dict[str, Any]
    environments: tuple[dict[str, str], ...]
    asked: frozenset[str] = frozenset()

    @property
    def shape(self) -> tuple[Any, ...]:
        """Returns what an engine that is loaded cannot change."""
        # how much is cached follows from what memory is free at the time, unless a person says it
        free = {"model", "kv_cache_memory_bytes"} - self.asked
        arguments = {name: value for name, value in self.arguments.items() if name not in free}
        return arguments, self.environments


def plan_fleet(
    attempt: Attempt, config: PretrainedConfig, weights: Weights, *, num_tokens: int
) -> Fleet:
    """Plans the engines; `num_tokens` are the most of prompt and completion together.

    Raises UsageError where there are fewer GPUs than the engines need.
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
    """Loads a VllmEngine in this process, or several behind a ReplicatedEngine."""
    prepare_process(settings.sample.vllm, device_of(settings.launch))
    if len(fleet.environments) > 1:
        return ReplicatedEngine(fleet.arguments, weights, sampling, settings, fleet.environments)
    from halos_backend.stages.sample.vllm_engine import VllmEngine  # imports vLLM

    return VllmEngine(fleet.arguments, weights, sampling)


def engine_environments(settings: RunSettings, num_threads: int) -> tuple[dict[str, str], ...]:
    """Returns the environment of each engine: its devices, or its share of `num_threads`.

    Raises UsageError where there are fewer GPUs than the engines need.
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


def engine_arguments(
    settings: RunSettings,
    config: PretrainedConfig,
    weights: Weights,
    *,
    num_tokens: int,
    stays: bool = False,
    num_replicas: int = 1,
) -> dict[str, Any]:
    """Makes vLLM's EngineArgs by name. `num_tokens` are the most of prompt and completion together.

    `stays` is for an engine that sleeps between rounds. What [sample.vllm] says comes last.
    """
    vllm, device = settings.sample.vllm, device_of(settings.launch)
    dtype = resolve_dtype(settings.policy.dtype, config)
    made: dict[str, Any] = {
        "model": weights.model,
        "dtype": str(dtype).removeprefix("torch."),
        "trust_remote_code": settings.policy.trust_remote_code,
        "max_model_len": min(context_length(config), num_tokens),
        "tensor_parallel_size": vllm.tensor_parallel_size,
        "seed": settings.loop.seed % (1 << 31),
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        "worker_extension_cls": WORKER,
        "disable_log_stats": True,
    }
    if device == "cpu":
        made |= _cpu_arguments(settings, config, dtype, num_tokens, num_replicas)
    elif stays:
        made["enable_sleep_mode"] = True
    if weights.rank:
        made |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": weights.rank}
    if vllm.gpu_memory_utilization is not None:
        made["gpu_memory_utilization"] = vllm.gpu_memory_utilization
    return made | vllm.set_arguments


def _cpu_arguments(
    settings: RunSettings, config: PretrainedConfig, dtype: torch.dtype, num_tokens: int, share: int
) -> dict[str, Any]:
    """Makes the arguments of a CPU engine, whose cache holds every completion in progress
    at once.
    """
    given = settings.sample.vllm
    in_progress = min(
        given.set_arguments.get("max_num_seqs", IN_PROGRESS),
        settings.loop.prompts_per_round * settings.sample.group_size,
    )
    blocks = num_blocks(num_tokens) * (in_progress + 1)
    return {
        "enforce_eager": True,
        # a prompt computed in parts turns its seed's generator back, which on a CPU none can
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(BATCHED_TOKENS, num_tokens),
        **cache_arguments(given, config, dtype, blocks=blocks, share=share),
    }

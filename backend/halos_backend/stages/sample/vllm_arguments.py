"""Makes the arguments of the engines that sample from the settings."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.device import device_of
from halos_backend.stages.models import context_length, resolve_dtype
from halos_backend.stages.sample.weights import Weights
from halos_backend.stages.vllm.cache import cache_arguments, num_blocks

BATCHED_TOKENS = 4096
"""Tokens that vLLM computes at a time on a CPU."""
IN_PROGRESS = 256
"""Completions that vLLM works on at a time, unless `max_num_seqs` says otherwise."""
WORKER = "halos_backend.stages.sample.vllm_worker.ReloadingWorker"


def engine_arguments(
    settings: RunSettings,
    config: PretrainedConfig,
    weights: Weights,
    *,
    num_tokens: int,
    stays: bool = False,
    num_replicas: int = 1,
) -> dict[str, Any]:
    """vLLM's EngineArgs by name. `num_tokens` are the most of prompt and completion together.

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
    """The cache holds every completion in progress at once."""
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

"""Makes the arguments of vLLM's engine from the settings, and its environment."""

from __future__ import annotations

import os
from typing import Any

import psutil
import torch
from transformers import PretrainedConfig

from halos_backend.config.schema import RunSettings
from halos_backend.interpreters.device import Device, device_of
from halos_backend.stages.models import context_length, resolve_dtype

GIB = 1 << 30
CPU_CACHE_BYTES = 2 * GIB
CPU_CACHE_SHARE = 0.25
"""At most this, and this share of the available memory."""
LEAST_CACHE_BYTES = GIB // 16
BLOCK_TOKENS = 128
"""vLLM gives out its cache on a CPU in blocks of so many tokens."""
BATCHED_TOKENS = 4096
"""Tokens that vLLM computes at a time on a CPU."""
IN_PROGRESS = 256
"""Completions that vLLM works on at a time, unless `max_num_seqs` says otherwise."""
CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
WORKER = "halos_backend.stages.sample.vllm_worker.ReloadingWorker"


def engine_arguments(
    settings: RunSettings,
    config: PretrainedConfig,
    policy: str,
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
        "model": policy,
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
    if vllm.gpu_memory_utilization is not None:
        made["gpu_memory_utilization"] = vllm.gpu_memory_utilization
    return made | vllm.set_arguments


def engine_environment(settings: RunSettings) -> dict[str, str]:
    """What vLLM reads from the environment; what a person has set there stays."""
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if device_of(settings.launch) == "cpu" and settings.sample.vllm.tensor_parallel_size == 1:
        # in one process: loads in a third of the time, and always batches the same way
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if is_eager(settings):
        wanted["TORCH_COMPILE_DISABLE"] = "1"  # vLLM compiles some functions all the same
    return {name: value for name, value in wanted.items() if name not in os.environ}


def visible_devices(device: Device) -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def is_eager(settings: RunSettings) -> bool:
    """Whether nothing is compiled: by default on a CPU, where it takes longer than most rounds."""
    given = settings.sample.vllm.set_arguments.get("enforce_eager")
    return device_of(settings.launch) == "cpu" if given is None else bool(given)


def _cpu_arguments(
    settings: RunSettings, config: PretrainedConfig, dtype: torch.dtype, num_tokens: int, share: int
) -> dict[str, Any]:
    """The cache's size is not left to vLLM, which would take most of the machine's memory."""
    made: dict[str, Any] = {
        "enforce_eager": True,
        # a prompt computed in parts turns its seed's generator back, which on a CPU none can
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(BATCHED_TOKENS, num_tokens),
    }
    given = settings.sample.vllm
    if not os.environ.get(CACHE_VARIABLE) and given.gpu_memory_utilization is None:
        available = CPU_CACHE_SHARE * psutil.virtual_memory().available
        most = int(min(CPU_CACHE_BYTES, available) / share)
        made["kv_cache_memory_bytes"] = min(
            most, _useful_cache(settings, config, dtype, num_tokens)
        )
    return made


def _useful_cache(
    settings: RunSettings, config: PretrainedConfig, dtype: torch.dtype, num_tokens: int
) -> int:
    """Bytes that hold every completion in progress at once; no policy that we know takes more."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or (getattr(text, "hidden_size", None) or 0) // heads
    kept = getattr(text, "num_key_value_heads", None) or heads
    layers = getattr(text, "num_hidden_layers", None) or 0
    per_token = 2 * layers * kept * width * dtype.itemsize
    if not per_token:
        return CPU_CACHE_BYTES
    in_progress = min(
        settings.sample.vllm.set_arguments.get("max_num_seqs", IN_PROGRESS),
        settings.loop.prompts_per_round * settings.sample.group_size,
    )
    blocks = -(-num_tokens // BLOCK_TOKENS) * (in_progress + 1)
    return max(LEAST_CACHE_BYTES, blocks * BLOCK_TOKENS * per_token)

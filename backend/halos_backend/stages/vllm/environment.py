"""Prepares for vLLM: its environment, whether it compiles, its cache on a CPU, the GPUs of its
engines.
"""

from __future__ import annotations

import os
from typing import Any

import psutil
import torch
from transformers import PretrainedConfig

from halos_backend.config.engines import EngineSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.device import Device, shown_gpus

NOT_IMPORTED = (AttributeError, ImportError, OSError, RuntimeError, TypeError, ValueError)
"""Lists what importing vLLM raises beside packages, or on a machine, that it does not fit."""

GIB = 1 << 30
CPU_CACHE_BYTES = 2 * GIB
CPU_CACHE_SHARE = 0.25
"""Is the share of the available memory that the cache on a CPU takes at most."""
LEAST_CACHE_BYTES = GIB // 16
BLOCK_TOKENS = 128
"""Is how many tokens a block of vLLM's cache on a CPU has."""
CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


def engine_environment(settings: EngineSettings, device: Device) -> dict[str, str]:
    """Returns what vLLM reads from the environment; what a person has set there stays."""
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if device == "cpu" and settings.tensor_parallel_size == 1:
        # in one process: loads in a third of the time, and always batches the same way
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    if is_eager(settings, device):
        wanted["TORCH_COMPILE_DISABLE"] = "1"  # vLLM compiles some functions all the same
    return {name: value for name, value in wanted.items() if name not in os.environ}


def is_eager(settings: EngineSettings, device: Device) -> bool:
    """Says whether nothing is compiled: by default on a CPU, where it takes longer than most
    rounds.
    """
    given = settings.set_arguments.get("enforce_eager")
    return device == "cpu" if given is None else bool(given)


def prepare_process(settings: EngineSettings, device: Device) -> None:
    """Makes this process one that vLLM can be imported into."""
    os.environ.update(engine_environment(settings, device))
    if is_eager(settings, device):
        import torch._dynamo.config

        torch._dynamo.config.disable = True  # its environment variable may be read already


def cache_arguments(
    settings: EngineSettings,
    config: PretrainedConfig,
    dtype: torch.dtype,
    *,
    blocks: int,
    share: int,
) -> dict[str, Any]:
    """Makes room for `blocks` of tokens, in one of `share` engines; none where a person has set it.

    The size is not left to vLLM, which would take most of the machine's memory.
    """
    if os.environ.get(CACHE_VARIABLE) or settings.gpu_memory_utilization is not None:
        return {}
    available = CPU_CACHE_SHARE * psutil.virtual_memory().available
    most = int(min(CPU_CACHE_BYTES, available) / share)
    return {"kv_cache_memory_bytes": min(most, _useful_bytes(config, dtype, blocks))}


def num_blocks(num_tokens: int) -> int:
    """Counts the blocks that a sequence takes."""
    return -(-num_tokens // BLOCK_TOKENS)


def _useful_bytes(config: PretrainedConfig, dtype: torch.dtype, blocks: int) -> int:
    """Counts the bytes that `blocks` take; no model that we know takes more."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or (getattr(text, "hidden_size", None) or 0) // heads
    kept = getattr(text, "num_key_value_heads", None) or heads
    layers = getattr(text, "num_hidden_layers", None) or 0
    per_token = 2 * layers * kept * width * dtype.itemsize
    if not per_token:
        return CPU_CACHE_BYTES
    return max(LEAST_CACHE_BYTES, blocks * BLOCK_TOKENS * per_token)


def visible_devices(device: Device) -> list[str]:
    """Returns the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    if device == "cpu":
        return []
    if (shown := shown_gpus()) is not None:
        return list(shown)
    return [str(number) for number in range(torch.cuda.device_count())]


def check_devices(num_engines: int, size: int, num_devices: int, *, table: str) -> None:
    """Raises UsageError where there are fewer GPUs than engines of `size` of them need.

    `table` is that of their settings.
    """
    needed = num_engines * size
    if needed > num_devices:
        lower = "replicas or tensor_parallel_size" if num_engines > 1 else "tensor_parallel_size"
        raise UsageError(
            f"{table}: {num_engines} engines of {size} GPUs each need {needed}, and {num_devices}"
            f" are there: lower {lower}"
        )

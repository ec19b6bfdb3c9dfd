"""How much memory an engine on a CPU gets for keys and values."""

from __future__ import annotations

import os
from typing import Any

import psutil
import torch
from transformers import PretrainedConfig

from halos_backend.config.vllm import EngineSettings

GIB = 1 << 30
CPU_CACHE_BYTES = 2 * GIB
CPU_CACHE_SHARE = 0.25
"""At most this, and this share of the available memory."""
LEAST_CACHE_BYTES = GIB // 16
BLOCK_TOKENS = 128
"""vLLM gives out its cache on a CPU in blocks of so many tokens."""
CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


def cache_arguments(
    settings: EngineSettings,
    config: PretrainedConfig,
    dtype: torch.dtype,
    *,
    blocks: int,
    share: int,
) -> dict[str, Any]:
    """Room for `blocks` of tokens, in one of `share` engines; none where a person has set it.

    The size is not left to vLLM, which would take most of the machine's memory.
    """
    if os.environ.get(CACHE_VARIABLE) or settings.gpu_memory_utilization is not None:
        return {}
    available = CPU_CACHE_SHARE * psutil.virtual_memory().available
    most = int(min(CPU_CACHE_BYTES, available) / share)
    return {"kv_cache_memory_bytes": min(most, _useful_bytes(config, dtype, blocks))}


def num_blocks(num_tokens: int) -> int:
    """Blocks that a sequence takes."""
    return -(-num_tokens // BLOCK_TOKENS)


def _useful_bytes(config: PretrainedConfig, dtype: torch.dtype, blocks: int) -> int:
    """No model that we know takes more."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or (getattr(text, "hidden_size", None) or 0) // heads
    kept = getattr(text, "num_key_value_heads", None) or heads
    layers = getattr(text, "num_hidden_layers", None) or 0
    per_token = 2 * layers * kept * width * dtype.itemsize
    if not per_token:
        return CPU_CACHE_BYTES
    return max(LEAST_CACHE_BYTES, blocks * BLOCK_TOKENS * per_token)

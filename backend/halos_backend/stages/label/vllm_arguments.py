"""Makes the arguments of the engine that scores with vLLM; stands alone, for it needs no vLLM."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig

from halos_backend.config.schema import RewardModelJudge
from halos_backend.stages.vllm.environment import cache_arguments, is_eager, num_blocks

SEQUENCES = {"cpu": 64, "cuda": 256}
"""Is how many conversations go at a time; on a CPU each takes a block of the cache at least."""


def pooling_arguments(
    settings: RewardModelJudge,
    config: PretrainedConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    max_model_len: int,
    batch_tokens: int,
    seed: int,
    stays: bool,
) -> dict[str, Any]:
    """Makes vLLM's EngineArgs by name, for a wave of conversations in one forward.

    `stays` is for an engine that sleeps between rounds. What [label.judge.vllm] says comes last.
    """
    vllm = settings.vllm
    made: dict[str, Any] = {
        "model": settings.path,
        "runner": "pooling",
        "convert": "auto",
        "dtype": str(dtype).removeprefix("torch."),
        "trust_remote_code": settings.trust_remote_code,
        "max_model_len": max_model_len,
        "max_num_batched_tokens": max(batch_tokens, max_model_len),
        "max_num_seqs": SEQUENCES[device.type],
        "tensor_parallel_size": vllm.tensor_parallel_size,
        "seed": seed % (1 << 31),
        "skip_tokenizer_init": True,
        # what was cached, and where a conversation was cut, would change the last digits
        "enable_prefix_caching": False,
        "enable_chunked_prefill": False,
        "disable_log_stats": True,
    }
    if device.type == "cpu":
        tokens = max(batch_tokens, max_model_len)
        blocks = num_blocks(tokens) + SEQUENCES["cpu"]
        made["enforce_eager"] = is_eager(vllm, "cpu")
        made |= cache_arguments(vllm, config, dtype, blocks=blocks, share=1)
    elif stays:
        made["enable_sleep_mode"] = True
    if vllm.gpu_memory_utilization is not None:
        made["gpu_memory_utilization"] = vllm.gpu_memory_utilization
    return made | vllm.set_arguments

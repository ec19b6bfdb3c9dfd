"""Owns the settings of vLLM: our own ones, and the engine arguments that a person may not set.

A sampler has one engine or several, a judge has one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from halos_backend.config.table import PositiveInt, Table

ArgumentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

OURS_WHILE_SAMPLING = {
    "model": "policy.path",
    "tokenizer": "policy.path",
    "dtype": "policy.dtype",
    "trust_remote_code": "policy.trust_remote_code",
    "tensor_parallel_size": "sample.vllm.tensor_parallel_size",
    "gpu_memory_utilization": "sample.vllm.gpu_memory_utilization",
    "seed": "loop.seed",
}
"""Maps engine arguments that follow from another setting to that setting."""

OURS_WHILE_SCORING = {
    "model": "label.judge.path",
    "tokenizer": "label.judge.path",
    "dtype": "label.judge.dtype",
    "trust_remote_code": "label.judge.trust_remote_code",
    "max_model_len": "label.judge.max_tokens",
    "max_num_batched_tokens": "label.judge.batch_tokens",
    "tensor_parallel_size": "label.judge.vllm.tensor_parallel_size",
    "gpu_memory_utilization": "label.judge.vllm.gpu_memory_utilization",
    "seed": "loop.seed",
}

NEEDED_WHILE_SAMPLING = frozenset(
    {
        "enable_sleep_mode",
        "generation_config",
        "logprobs_mode",
        "runner",
        "skip_tokenizer_init",
        "worker_extension_cls",
    }
)
"""Names engine arguments that the sample stage itself depends on."""

NEEDED_WHILE_SCORING = frozenset(
    {
        "convert",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enable_sleep_mode",
        "pooler_config",
        "runner",
        "skip_tokenizer_init",
    }
)
"""Names engine arguments that the label stage itself depends on."""


class EngineSettings(Table):
    """One of vLLM's engines."""

    tensor_parallel_size: PositiveInt = 1
    """GPUs that one engine spreads the model over."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of a GPU's memory that an engine may take; absent is vLLM's own default."""
    arguments: dict[ArgumentName, Any] = Field(default={})
    """Any other engine argument by vLLM's own name, such as `max_num_seqs = 128`."""

    @property
    def set_arguments(self) -> dict[str, Any]:
        """Returns `arguments` less those that were taken out again, which are null."""
        return {name: value for name, value in self.arguments.items() if value is not None}


class VllmSettings(EngineSettings):
    """How vLLM samples, where it is the engine."""

    replicas: PositiveInt | None = None
    """Engines side by side, each on GPUs of its own; by default as many as the GPUs suffice for,
    and one on a CPU."""

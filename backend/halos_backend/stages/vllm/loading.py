"""Loads an engine of vLLM; what goes wrong is said in the words of the stage that wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from vllm import EngineArgs, LLMEngine

from halos_backend.errors import OutOfMemoryError, StageError

REFUSALS = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What it raises where it cannot take a model: it has no exceptions of its own for that."""


@dataclass(frozen=True)
class Wanted:
    """What an engine is for: the model in words, its table of settings, the setting that makes it
    take less memory, and how to do without vLLM.
    """

    model: str
    table: str
    lower: str
    without: str


def load_engine(arguments: Mapping[str, Any], wanted: Wanted) -> LLMEngine:
    """`arguments` are vLLM's EngineArgs by name. Raises StageError, OutOfMemoryError."""
    try:
        return LLMEngine.from_engine_args(EngineArgs(**arguments))
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(_memory_advice(error, wanted)) from error
    except REFUSALS as error:
        reason = _first_line(error)
        if "memory" in reason.lower():
            raise OutOfMemoryError(_memory_advice(error, wanted)) from error
        raise StageError(
            f"vLLM cannot load {wanted.model} at {arguments['model']}: {reason}; what it said"
            f" before is in this attempt's stdout.log. {wanted.without}"
        ) from error


def _memory_advice(error: BaseException, wanted: Wanted) -> str:
    table = wanted.table
    if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
        fix = f"lower {table}.arguments.kv_cache_memory_bytes or {wanted.lower}"
    else:
        fix = (
            f"change {table}.gpu_memory_utilization, spread {wanted.model} over more GPUs with"
            f" {table}.tensor_parallel_size, or lower {wanted.lower}"
        )
    return f"vLLM does not fit into memory: {_first_line(error)}; {fix}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

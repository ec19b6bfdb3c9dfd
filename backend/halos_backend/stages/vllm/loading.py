"""Loads an engine of vLLM, and words what goes wrong as the stage that wants it does."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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
"""Lists what vLLM raises where it cannot take a model: it has no exceptions of its own for that."""
ENDED = "Engine core initialization failed"
"""Is what vLLM raises where the engine is a process of its own, which alone says why, in
the log.
"""
MEMORY_ERROR = re.compile(r"Error: (.*\bmemory\b.*)", re.IGNORECASE)
"""Finds how that process says it: a GPU's memory is full, or the rest of it is too little for the
cache.
"""


@dataclass(frozen=True)
class Wanted:
    """Says what an engine is for.

    It has the model in words, its table of settings, the setting that makes it take less memory,
    and how to do without vLLM.
    """

    model: str
    table: str
    lower: str
    without: str


def load_engine(arguments: Mapping[str, Any], wanted: Wanted) -> LLMEngine:
    """Loads an engine; `arguments` are vLLM's EngineArgs by name. Raises StageError,
    OutOfMemoryError.
    """
    start = os.fstat(1).st_size
    try:
        return LLMEngine.from_engine_args(EngineArgs(**arguments))
    except torch.OutOfMemoryError as error:
        raise _too_large(_first_line(error), wanted) from error
    except REFUSALS as error:
        reason, advice = _first_line(error), ""
        if reason.startswith(ENDED):
            found = MEMORY_ERROR.search(_logged_since(start))
            reason = found[1] if found else reason
            advice = f" Where memory is too little, {_memory_advice(wanted)}."
        if "memory" in reason.lower():
            raise _too_large(reason, wanted) from error
        raise StageError(
            f"vLLM cannot load {wanted.model} at {arguments['model']}: {reason}; what it said"
            f" before is in this attempt's stdout.log.{advice} {wanted.without}"
        ) from error


def _too_large(reason: str, wanted: Wanted) -> OutOfMemoryError:
    said = reason.rstrip(".")
    return OutOfMemoryError(f"vLLM does not fit into memory: {said}", fix=_memory_advice(wanted))


def _memory_advice(wanted: Wanted) -> str:
    table = wanted.table
    if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
        return f"lower {table}.arguments.kv_cache_memory_bytes or {wanted.lower}"
    return (
        f"change {table}.gpu_memory_utilization, spread {wanted.model} over more GPUs with"
        f" {table}.tensor_parallel_size, or lower {wanted.lower}"
    )


def _logged_since(start: int) -> str:
    """Returns what this process and its children have written to standard output; empty where that
    is no file.
    """
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return ""
    with Path("/proc/self/fd/1").open("rb") as log:
        log.seek(start)
        return log.read().decode(errors="replace")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

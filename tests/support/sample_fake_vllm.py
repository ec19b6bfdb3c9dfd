"""vLLM's engine, as far as ours asks for it, with what it raises; put in place of the package."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

OURS = ("halos_backend.stages.vllm.loading", "halos_backend.stages.sample.vllm_engine")
ENDED = RuntimeError(
    "Engine core initialization failed. See root cause above. Failed core proc(s):"
    " {'EngineCore_DP0': 1}"
)
"""Where the engine is a process of its own, whatever the reason."""


class EngineDeadError(Exception):
    """As vLLM's own: its engine has ended."""


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class FakeVllm:
    """What the engine is to do: `logs` goes to standard output before `refuses` is raised."""

    logs: bytes = b""
    refuses: Exception | None = None
    refuses_adapter: Exception | None = None
    forgets: bool = True
    num_shutdowns: int = 0
    model_config: Any = field(
        default_factory=lambda: SimpleNamespace(max_model_len=64, get_vocab_size=lambda: 32)
    )

    def from_engine_args(self, arguments: Any) -> FakeVllm:
        os.write(1, self.logs)
        if self.refuses is not None:
            raise self.refuses
        return self

    @property
    def engine_core(self) -> FakeVllm:
        return self

    def shutdown(self) -> None:
        self.num_shutdowns += 1

    def add_lora(self, adapter: LoRARequest) -> bool:
        if self.refuses_adapter is not None:
            raise self.refuses_adapter
        return True

    def reset_prefix_cache(self) -> bool:
        return self.forgets


@contextmanager
def fake_vllm() -> Iterator[tuple[FakeVllm, ModuleType, ModuleType]]:
    """The fake, and our modules of `OURS` as they are with it."""
    fake = FakeVllm()
    contents: dict[str, dict[str, Any]] = {
        "vllm": {"EngineArgs": dict, "LLMEngine": fake, "SamplingParams": dict},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.sampling_params": {"RequestOutputKind": None},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {"EngineDeadError": EngineDeadError},
    }
    before = {name: sys.modules.pop(name, None) for name in (*contents, *OURS)}
    for name, content in contents.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(content)
    try:
        loading, engine = (importlib.import_module(name) for name in OURS)
        yield fake, loading, engine
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module

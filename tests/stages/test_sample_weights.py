"""What an engine of vLLM samples with: adapters on the initial policy, or a whole checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.stages.sample.choose_weights import Weights, choose_weights
from halos_backend.store.job import SampleInputs
from transformers import LlamaConfig

SUPPORT = "halos_backend.stages.vllm.support"


@pytest.fixture(autouse=True)
def support(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands in for vLLM's own answer."""
    module: Any = ModuleType(SUPPORT)
    module.takes_adapters = lambda config: config.architectures == ["LlamaForCausalLM"]
    monkeypatch.setitem(sys.modules, SUPPORT, module)
    return module  # type: ignore[no-any-return]


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    path = tmp_path / "adapter"
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps({"r": 12}))
    return str(path)


def settings(r: int | None, **arguments: Any) -> RunSettings:
    return RunSettings.model_validate(
        {
            "policy": {"path": "/base"},
            "prompts": {"path": "p.jsonl"},
            "sample": {"vllm": {"arguments": arguments}},
            "label": {
                "judge": {"kind": "function", "function": "judge.py:f"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": "dpo"}, "lora": None if r is None else {"r": r}},
        }
    )


def choose(
    adapter: str | None, made: RunSettings, *, policy: str = "/checkpoint", kind: str = "Llama"
) -> Weights:
    inputs = SampleInputs(policy, 1, "p.jsonl", 0, 4, base="/base", adapter=adapter)
    return choose_weights(inputs, made, LlamaConfig(architectures=[f"{kind}ForCausalLM"]))


def test_adapters_go_to_an_engine_with_room_for_the_largest(adapter: str) -> None:
    assert choose(adapter, settings(4)) == Weights("/base", adapter, 16)
    assert choose(adapter, settings(100)) == Weights("/base", adapter, 128)
    assert choose(adapter, settings(None)) == Weights("/base", adapter, 16)


def test_the_first_rounds_engine_has_room_for_the_adapters_to_come() -> None:
    assert choose(None, settings(8), policy="/base") == Weights("/base", None, 8)
    assert choose(None, settings(None), policy="/base") == Weights("/base")


def test_a_checkpoint_is_sampled_as_a_whole_where_adapters_will_not_do(
    adapter: str, tmp_path: Path
) -> None:
    whole = Weights("/checkpoint")
    assert choose(None, settings(8)) == whole
    assert choose(str(tmp_path / "absent"), settings(8)) == whole
    assert choose(adapter, settings(513)) == whole
    assert choose(adapter, settings(8, enable_lora=False)) == whole
    assert choose(adapter, settings(8), kind="Other") == whole

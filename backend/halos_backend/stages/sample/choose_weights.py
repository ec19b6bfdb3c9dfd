"""Decides which weights a vLLM engine samples with: a whole checkpoint, or the initial policy and
adapters.

Adapters are megabytes where a checkpoint is gigabytes, so an engine that stays keeps the policy
that they apply to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PretrainedConfig

from halos_backend.config.schema import RunSettings
from halos_backend.store.job import SampleInputs

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Lists ranks: vLLM has room for adapters of one of these."""


@dataclass(frozen=True)
class Weights:
    """Names weights: `model` is a checkpoint's directory, `adapter` that of adapters for it, in
    peft's format.

    `rank` is that of the largest adapters that the engine is ever handed, 0 for one without any.
    """

    model: str
    adapter: str | None = None
    rank: int = 0


def choose_weights(
    inputs: SampleInputs, settings: RunSettings, config: PretrainedConfig
) -> Weights:
    """Chooses adapters where the policy has some, or is going to, and vLLM takes them for such a
    model.
    """
    whole = Weights(inputs.policy)
    adapter = inputs.adapter if inputs.adapter and Path(inputs.adapter).is_dir() else None
    if adapter is None and inputs.policy != inputs.base:
        return whole
    asked = settings.train.lora.r if settings.train.lora else 0
    rank = max(asked, _rank(adapter) if adapter else 0)
    is_wanted = settings.sample.vllm.set_arguments.get("enable_lora", True)
    if not 0 < rank <= RANKS[-1] or not is_wanted:
        return whole
    from halos_backend.stages.vllm.support import takes_adapters  # imports vLLM

    if not takes_adapters(config):
        return whole
    return Weights(inputs.base, adapter, min(known for known in RANKS if known >= rank))


def _rank(adapter: str) -> int:
    config = json.loads((Path(adapter) / "adapter_config.json").read_bytes())
    return int(config["r"])

"""Holds the engine of a sample stage: loaded for a round, and for the next too where the process
stays.

vLLM's takes the next policy's weights in place. A transformers engine is loaded anew, which is as
fast.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.records import Prompt, read_rows
from halos_backend.stages.chat import sampling_prefix
from halos_backend.stages.models import load_config
from halos_backend.stages.runtime import Attempt
from halos_backend.stages.sample.choose_weights import choose_weights
from halos_backend.stages.sample.engine import Engine
from halos_backend.stages.sample.sampling import load_sampling
from halos_backend.stages.sample.transformers_engine import load_engine
from halos_backend.store.job import SampleInputs


class EngineCache:
    """Holds at most one engine."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._shape: tuple[Any, ...] = ()

    def get(self, sampler: EngineChoice, attempt: Attempt, inputs: SampleInputs) -> Engine:
        """Returns the engine with the policy of `inputs` in it. Raises StageError, UsageError."""
        if sampler.engine == "transformers":
            self.close()
            self._engine = load_engine(inputs.policy, attempt.settings)
        else:
            self._get_vllm(attempt, inputs)
        engine: Engine = self._engine
        return engine

    def park(self) -> None:
        """Gives GPU memory back; what takes long to build stays."""
        if hasattr(self._engine, "park"):
            self._engine.park()
        else:
            self.close()
            _give_back()

    def close(self) -> None:
        """Ends it, and whatever processes it has."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _get_vllm(self, attempt: Attempt, inputs: SampleInputs) -> None:
        from halos_backend.stages.sample.vllm_fleet import load_fleet, plan_fleet

        settings, policy = attempt.settings, inputs.policy
        sampling = load_sampling(policy, settings)
        prefix = sampling_prefix(sampling.ending.tokenizer, settings.train.loss)
        prompts = read_rows(Path(inputs.prompts), Prompt)
        longest = max(len(prompt.token_ids) for prompt in prompts)
        config = load_config(policy, trust_remote_code=settings.policy.trust_remote_code)
        weights = choose_weights(inputs, settings, config)
        fleet = plan_fleet(
            attempt,
            config,
            weights,
            num_tokens=longest + len(prefix) + settings.sample.max_new_tokens,
        )
        if self._engine is not None and self._shape == fleet.shape:
            self._engine.begin(weights, sampling, settings)
            return
        self.close()
        self._engine = load_fleet(fleet, weights, sampling, settings)
        self._shape = fleet.shape


def _give_back() -> None:
    """Gives back what torch holds of a GPU for models that are gone."""
    if torch.cuda.is_available():
        gc.collect()  # a model may be part of a circle of references
        torch.cuda.empty_cache()

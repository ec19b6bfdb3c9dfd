"""The transformers engine on the architectures that people train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.config.schema import RunSettings
from halos_backend.stages.model_limits import is_recurrent
from halos_backend.stages.sample.engine import Request
from halos_backend.stages.sample.transformers_engine import load_engine

from tests.support.architectures import EACH, make_architecture
from tests.support.train_fixtures import END, load_plain

PROMPTS = [
    (5, 9, 33, 12, 60, 7, 7, 21, 40, 41, 42, 8),
    (17,),
    (50, 51, 6, 18, 19, 20, 4),
    (61, 62, 63, 5, 9, 33, 12),
    (8, 8, 8, 14, 15, 16, 17),
    (30, 29, 28, 27, 26, 25, 24),
    (4, 4, 30),
]
MAX_NEW_TOKENS = 14


def settings_for(policy: Path, **sample: Any) -> RunSettings:
    return RunSettings.model_validate(
        {
            "policy": {"path": str(policy)},
            "prompts": {"path": "prompts.jsonl"},
            "sample": {"max_new_tokens": MAX_NEW_TOKENS, "temperature": 0.0, **sample},
            "label": {
                "judge": {"kind": "function", "function": "judge.py:judge"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": "dpo"}},
            "launch": {"device": "cpu"},
        }
    )


def generated_alone(policy: Path) -> list[list[int]]:
    """What transformers makes of each prompt by itself."""
    plain, made = load_plain(policy), []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        row = plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=END,
        )[0]
        made.append(row[len(prompt) :].tolist())
    return made


def cut_at(token_ids: list[int], ends: set[int]) -> list[int]:
    """Up to the first end, that included."""
    first = next((place for place, token in enumerate(token_ids) if token in ends), None)
    return token_ids if first is None else token_ids[: first + 1]


@pytest.mark.parametrize("name", EACH)
def test_a_batch_that_rows_leave_is_sampled_as_transformers_generates_each_alone(
    name: str, tmp_path: Path
) -> None:
    policy = make_architecture(name, tmp_path / name)
    alone = generated_alone(policy)
    ends = {row[:4][-1] for row in alone[:4]}  # so that most rows end early
    expected = [cut_at(token_ids, ends) for token_ids in alone]
    assert len({len(token_ids) for token_ids in expected}) > 1

    engine = load_engine(str(policy), settings_for(policy, stop_token_ids=sorted(ends)))
    requests = [Request(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    found = {place: made.token_ids for place, made in engine.generate(requests, stepped=int)}
    assert [list(found[place]) for place in range(len(PROMPTS))] == expected


def test_only_models_with_a_state_sample_prompts_of_one_length_at_a_time(tmp_path: Path) -> None:
    recurrent = set()
    for name in ("llama", "mistral", "gemma3", "lfm2", "mamba2", "qwen3_next", "falcon_h1"):
        model = load_plain(make_architecture(name, tmp_path / name))
        if is_recurrent(model):
            recurrent.add(name)
    assert recurrent == {"lfm2", "mamba2", "qwen3_next", "falcon_h1"}

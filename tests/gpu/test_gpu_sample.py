"""The transformers engine on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from halos_backend.records import Prompt, read_rows
from transformers import AutoModelForCausalLM

from tests.support.gpu_worker import run_on_gpu
from tests.support.sample_fixtures import SamplePlace, by_id, run_here

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture
def place(tmp_path: Path) -> SamplePlace:
    return SamplePlace(tmp_path, device="auto")


def test_greedy_tokens_equal_those_of_generate(place: SamplePlace, gpu: torch.device) -> None:
    attempt = place.attempt(
        "attempt_1", temperature=0.0, group_size=1, batch_size=4, max_new_tokens=24
    )
    run_on_gpu("sample", attempt.path)
    policy = AutoModelForCausalLM.from_pretrained(place.policy, dtype=torch.float32).to(gpu)
    found = by_id(attempt)
    for prompt in read_rows(place.path / "prompts.jsonl", Prompt):
        ids = torch.tensor([list(prompt.token_ids)], device=gpu)
        output = policy.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=[2],
        )
        expected = tuple(output[0, ids.shape[1] :].tolist())
        assert found[prompt.prompt_id].completions[0].token_ids == expected


def test_a_seed_draws_the_same_tokens_as_on_a_cpu(place: SamplePlace) -> None:
    on_gpu = place.attempt("on_gpu")
    run_on_gpu("sample", on_gpu.path)
    place.device = "cpu"
    on_cpu = place.attempt("on_cpu")
    run_here(on_cpu)
    expected, found = by_id(on_cpu), by_id(on_gpu)
    assert found.keys() == expected.keys()
    for name, group in expected.items():
        assert [each.token_ids for each in found[name].completions] == [
            each.token_ids for each in group.completions
        ]

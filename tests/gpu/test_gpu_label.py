"""The reward_model judge on a GPU, against plain transformers, one sequence per forward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from halos_backend.records import Group
from transformers import AutoModelForSequenceClassification

from tests.support.gpu_worker import run_on_gpu
from tests.support.label_fixtures import (
    expected_ids,
    make_attempt,
    ragged_groups,
    reward_model_judge,
    rewards_of,
    save_classifier,
)

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
ROWS = ragged_groups(8, 4)


def plain_rewards(path: Path, groups: Sequence[Group]) -> list[float]:
    """In fp32 on the CPU, without padding or batches."""
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        return [
            float(model(input_ids=torch.tensor([expected_ids(row, entry)])).logits.reshape(()))
            for row in groups
            for entry in row.completions
        ]


def test_rewards_equal_those_one_by_one(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    attempt = make_attempt(
        tmp_path / "attempt", ROWS, reward_model_judge(model, dtype="float32"), device="auto"
    )
    run_on_gpu("label", attempt)
    assert rewards_of(attempt) == pytest.approx(plain_rewards(model, ROWS), abs=1e-3)


def test_rewards_in_bf16_keep_the_order_that_rounding_leaves(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    attempt = make_attempt(
        tmp_path / "attempt", ROWS, reward_model_judge(model, dtype="bfloat16"), device="auto"
    )
    run_on_gpu("label", attempt)
    found, expected = torch.tensor(rewards_of(attempt)), torch.tensor(plain_rewards(model, ROWS))
    assert torch.corrcoef(torch.stack([found, expected]))[0, 1] > 0.99


def test_a_parked_reward_model_holds_no_gpu_memory(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model", hidden_size=2048)
    weights = (model / "model.safetensors").stat().st_size
    judge = reward_model_judge(model, dtype="float32")
    attempts = [
        make_attempt(tmp_path / name / "attempt", ROWS, judge, device="auto") for name in "ab"
    ]
    for held in run_on_gpu("label", *attempts):
        assert held.at_most > weights
        assert held.parked < 0.5 * weights
    assert rewards_of(attempts[0]) == rewards_of(attempts[1])

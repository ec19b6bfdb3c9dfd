"""Gradient checkpointing, and dropout of a policy's own, which training leaves off either way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.stages.train.collate import collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import token_logps
from halos_backend.stages.train.trainee import Trainee, enable_checkpointing
from transformers import OPTConfig, OPTForCausalLM

from tests.support.train_fixtures import (
    END,
    PAD,
    VOCABULARY,
    make_attempt,
    metrics,
    pairs,
    save_policy,
    token_logps_alone,
    train,
)

SEQUENCE = TokenSequence((5, 6, 7), (8, 9, 1))


def opt() -> Any:
    """Its layers drop by themselves, half of what they make, while they are training."""
    torch.manual_seed(0)
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
            dropout=0.5,
            attention_dropout=0.5,
            init_std=0.2,
            pad_token_id=PAD,
            eos_token_id=END,
            bos_token_id=None,
        )
    ).eval()


def trainee_of(model: Any) -> Trainee:
    return Trainee(
        model=model,
        wrapper=None,
        dtype=torch.float32,
        is_plain=True,
        equals_file=True,
        keeps_base=False,
    )


@pytest.mark.parametrize(("checkpoints", "passes"), [(False, 1), (True, 2)])
def test_a_policy_under_training_computes_as_in_evaluation(checkpoints: bool, passes: int) -> None:
    model = opt()
    expected = token_logps_alone(model, SEQUENCE.prompt, SEQUENCE.completion)
    wanted = torch.autograd.grad(expected.sum(), model.model.decoder.layers[0].fc1.weight)[0]
    if checkpoints:
        enable_checkpointing(model)
    trainee, passed = trainee_of(model), []
    model.model.decoder.layers[0].fc1.register_forward_hook(lambda *_: passed.append(1))
    batch = collate([SEQUENCE], pad_token_id=PAD, device=torch.device("cpu"))
    with trainee.training():
        found = token_logps(model, batch, is_plain=True)[0]
        found.sum().backward()
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=0)
    gradient = model.model.decoder.layers[0].fc1.weight.grad
    torch.testing.assert_close(gradient, wanted, atol=2e-6, rtol=1e-4)
    assert len(passed) == passes
    assert not any(module.training for module in model.modules())


def test_a_copy_of_a_checkpointed_policy_has_layers_of_its_own() -> None:
    """A reference that follows the policy begins as one."""
    model = opt()
    enable_checkpointing(model)
    other = copy.deepcopy(model)
    held = other.model.decoder.layers[0]._gradient_checkpointing_func.args
    assert held[0] is other.model.decoder.layers[0]


@pytest.mark.parametrize("checkpoints", [False, True])
def test_the_first_margin_of_a_policy_with_dropout_is_zero(
    checkpoints: bool, tmp_path: Path
) -> None:
    policy = save_policy(opt(), tmp_path / "policy")
    attempt = make_attempt(
        tmp_path / "attempt", pairs(6), model=policy, reference=policy, loss={"kind": "dpo"},
        gradient_checkpointing=checkpoints, num_epochs=2,
    )  # fmt: skip
    train(attempt)
    logged = metrics(attempt)
    assert logged[1]["implicit_reward_margin"] == pytest.approx(0.0, abs=1e-6)
    assert logged[1]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert logged[2]["loss"] < logged[1]["loss"]

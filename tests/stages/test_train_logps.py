"""Log-probabilities against a plain log-softmax over a plain model's own logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from halos_backend.stages.train.collate import collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import has_plain_head, linear_logps, token_logps
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from tests.support.train_fixtures import PAD, VOCABULARY, load_plain, make_policy, token_logps_alone

SEQUENCES = [
    TokenSequence((5, 6, 7), (8, 9, 1)),
    TokenSequence((5,), (10, 11, 12, 13, 14, 1)),
    TokenSequence((20, 21, 22, 23, 24, 25), (26,)),
    TokenSequence((20, 21), ()),
]
CPU = torch.device("cpu")


def check_against_plain(policy: PreTrainedModel, *, is_plain: bool) -> None:
    batch = collate(SEQUENCES, pad_token_id=PAD, device=CPU)
    values = token_logps(policy, batch, is_plain=is_plain)
    assert values.dtype == torch.float32
    assert batch.completion_mask.sum(-1).tolist() == [3, 6, 1, 0]
    for sequence, row, mask in zip(SEQUENCES, values, batch.completion_mask, strict=True):
        expected = (
            token_logps_alone(policy, sequence.prompt, sequence.completion)
            if len(sequence.completion)
            else torch.zeros(0)
        )
        assert mask.tolist() == [True] * len(expected) + [False] * (6 - len(expected))
        torch.testing.assert_close(row[mask].double(), expected.double(), atol=2e-6, rtol=0)
        assert not row[~mask].any()


def test_token_logps_equal_those_of_the_models_own_logits(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))
    assert has_plain_head(policy)
    check_against_plain(policy, is_plain=True)


def test_gpt2_with_its_own_layout_and_tied_weights_has_a_plain_head() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    policy = GPT2LMHeadModel(config).eval()
    assert has_plain_head(policy)
    check_against_plain(policy, is_plain=True)


SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": PAD,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def test_soft_capped_logits_are_noticed_and_respected() -> None:
    torch.manual_seed(0)
    config = Gemma2Config(**SMALL, final_logit_softcapping=2.0, query_pre_attn_scalar=16)
    config._attn_implementation = "eager"
    policy = Gemma2ForCausalLM(config).eval()
    assert not has_plain_head(policy)
    check_against_plain(policy, is_plain=False)


def test_scaled_logits_are_noticed_and_respected() -> None:
    torch.manual_seed(0)
    sizes = {key: value for key, value in SMALL.items() if key != "head_dim"}
    policy = CohereForCausalLM(CohereConfig(**sizes, logit_scale=0.25)).eval()
    assert not has_plain_head(policy)
    check_against_plain(policy, is_plain=False)


@pytest.mark.parametrize("has_bias", [False, True])
def test_chunked_logps_and_their_gradients_equal_plain_ones(has_bias: bool) -> None:
    torch.manual_seed(1)
    hidden = torch.randn(11, 8, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(50, 8, requires_grad=True)
    bias = torch.randn(50, requires_grad=True) if has_bias else None
    targets = torch.randint(50, (11,))
    upstream = torch.randn(11)
    inputs = [hidden, weight, *([bias] if bias is not None else [])]

    plain = torch.nn.functional.linear(hidden.double(), weight.double())
    plain = plain + bias.double() if bias is not None else plain
    expected = plain.log_softmax(-1)[torch.arange(11), targets]
    expected_grads = torch.autograd.grad((expected * upstream).sum(), inputs)

    # 3 rows a chunk: 11 rows are not a multiple of it
    values = linear_logps(hidden, weight, bias, targets, chunk_elements=150)
    grads = torch.autograd.grad((values * upstream).sum(), inputs)
    torch.testing.assert_close(values.double(), expected, atol=1e-5, rtol=1e-5)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk_elements", [150, 10_000], ids=["chunks", "at once"])
def test_logits_are_divided_by_each_tokens_own_temperature(chunk_elements: int) -> None:
    torch.manual_seed(5)
    hidden = torch.randn(11, 8, requires_grad=True)
    weight = torch.randn(50, 8, requires_grad=True)
    bias = torch.randn(50, requires_grad=True)
    targets, upstream = torch.randint(50, (11,)), torch.randn(11)
    temperatures = torch.linspace(0.3, 2.0, 11)
    logits = (hidden.double() @ weight.double().t() + bias.double()) / temperatures.unsqueeze(-1)
    expected = logits.log_softmax(-1)[torch.arange(11), targets]
    inputs = [hidden, weight, bias]
    expected_grads = torch.autograd.grad((expected * upstream).sum(), inputs)
    values = linear_logps(
        hidden, weight, bias, targets, temperatures=temperatures, chunk_elements=chunk_elements
    )
    grads = torch.autograd.grad((values * upstream).sum(), inputs)
    torch.testing.assert_close(values.double(), expected, atol=1e-5, rtol=1e-5)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("is_plain", [True, False])
def test_sequences_of_a_batch_have_temperatures_of_their_own(
    tmp_path: Path, is_plain: bool
) -> None:
    policy = load_plain(make_policy(tmp_path))
    temperatures = (1.0, 0.5, 2.0, 0.7)
    sequences = [
        TokenSequence(s.prompt, s.completion, temperature=temperature)
        for s, temperature in zip(SEQUENCES, temperatures, strict=True)
    ]
    batch = collate(sequences, pad_token_id=PAD, device=CPU)
    found = token_logps(policy, batch, is_plain=is_plain)
    for sequence, row, temperature in zip(SEQUENCES, found, temperatures, strict=True):
        ids = torch.tensor([[*sequence.prompt, *sequence.completion]])
        with torch.no_grad():
            logits = policy(ids).logits[0].double() / temperature
        first, length = len(sequence.prompt) - 1, len(sequence.completion)
        expected = logits.log_softmax(-1)[first : first + length].gather(
            -1, ids[0, first + 1 :].unsqueeze(-1)
        )
        torch.testing.assert_close(row[:length].double(), expected.squeeze(-1), atol=3e-6, rtol=0)


def test_chunked_logps_leave_a_frozen_head_without_gradient() -> None:
    hidden = torch.randn(9, 4, requires_grad=True)
    weight = torch.randn(20, 4)
    values = linear_logps(hidden, weight, None, torch.arange(9), chunk_elements=40)
    values.sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_chunks_are_multiplied_in_autocasts_dtype_and_summed_in_fp32() -> None:
    torch.manual_seed(2)
    hidden, weight = torch.randn(9, 16), torch.randn(40, 16)
    targets = torch.randint(40, (9,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = linear_logps(hidden, weight, None, targets)
        chunked = linear_logps(hidden, weight, None, targets, chunk_elements=80)
    in_bf16 = (hidden.bfloat16() @ weight.bfloat16().t()).float().log_softmax(-1)
    expected = in_bf16[torch.arange(9), targets]
    torch.testing.assert_close(whole, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(chunked, expected, atol=1e-6, rtol=0)


def test_padding_does_not_change_a_sequences_gradient(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))

    def gradient(sequences: list[TokenSequence]) -> torch.Tensor:
        policy.zero_grad()
        batch = collate(sequences, pad_token_id=PAD, device=CPU)
        token_logps(policy, batch, is_plain=True)[0].sum().backward()
        return policy.model.layers[0].self_attn.q_proj.weight.grad.clone()

    alone, padded = gradient(SEQUENCES[:1]), gradient(SEQUENCES)
    assert alone.abs().max() > 1e-3
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-4)

"""Packed rows against one sequence at a time, and what is never computed or held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.config.schema import LaunchSettings
from halos_backend.stages.packing import PACKED, is_packed, pack
from halos_backend.stages.train import reference
from halos_backend.stages.train.collate import collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import has_plain_head, linear_logps, token_logps
from halos_backend.stages.train.ranks import join_train_ranks
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from tests.support.train_fixtures import (
    PAD,
    VOCABULARY,
    load_plain,
    make_attempt,
    make_gemma2,
    make_policy,
    metrics,
    pairs,
    token_logps_alone,
    train,
    weights_of,
)

CPU = torch.device("cpu")
SEQUENCES = [
    TokenSequence((5, 6, 7), (8, 9, 1)),
    TokenSequence((5,), (10, 11, 12, 13, 14, 1)),
    TokenSequence((20, 21, 22, 23, 24, 25), (26,)),
    TokenSequence((20, 21), ()),
    TokenSequence((30,), (31, 1)),
    TokenSequence((5, 6, 7), (14, 1)),
    TokenSequence((20, 21), (22, 15, 1)),
]
NUM_SHARED = 3 + 2
"""Tokens of prompts that stand there a second time."""

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": PAD, "eos_token_id": 1,
    "bos_token_id": None, "initializer_range": 0.2,
}  # fmt: skip


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    )


def qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


def loss_and_gradients(policy: PreTrainedModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of a weighted sum of all token log-probabilities, the padded ones' among them."""
    policy.zero_grad()
    values = token_logps(
        policy, collate(SEQUENCES, pad_token_id=PAD, device=CPU), is_plain=has_plain_head(policy)
    )
    loss = (values * torch.linspace(0.5, 1.5, values.numel()).view(values.shape)).sum()
    loss.backward()
    grads = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    return loss.detach(), grads


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_pass_gives_the_loss_and_gradients_of_padded_rows(
    family: str, checkpointing: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    makers = {"qwen2": qwen2, "gpt2": gpt2}
    policy = makers[family]() if family in makers else load_plain(make_policy(tmp_path))
    policy.eval()
    if checkpointing:
        policy.activation_checkpointing_enable({"use_reentrant": False})
        for module in policy.modules():
            module.training = isinstance(module, GradientCheckpointingLayer)
    loss, grads = loss_and_gradients(policy)
    pack(policy, CPU)
    assert is_packed(policy)
    packed_loss, packed_grads = loss_and_gradients(policy)
    torch.testing.assert_close(packed_loss, loss, atol=0, rtol=2e-6)
    assert packed_grads.keys() == grads.keys()
    largest = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        torch.testing.assert_close(packed_grads[name], grad, atol=2e-6 * largest, rtol=0)


def test_packed_log_probabilities_are_those_of_each_sequence_alone(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))
    expected = [
        token_logps_alone(policy, s.prompt, s.completion) for s in SEQUENCES if s.completion
    ]
    pack(policy, CPU)
    values = token_logps(
        policy, collate(SEQUENCES, pad_token_id=PAD, device=CPU), is_plain=True
    ).detach()
    rows = [row[: len(s.completion)] for row, s in zip(values, SEQUENCES, strict=True)]
    for row, alone in zip([row for row in rows if len(row)], expected, strict=True):
        torch.testing.assert_close(row.double(), alone, atol=2e-6, rtol=0)


class Counted:
    """Sizes of what goes through a module: (positions in, elements out)."""

    def __init__(self, module: nn.Module) -> None:
        self.positions: list[int] = []
        module.register_forward_hook(self._count)

    def _count(self, _module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        self.positions.append(inputs[0].numel() // inputs[0].shape[-1])


def test_neither_padding_nor_a_prompt_twice_goes_through_the_layers(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))
    pack(policy, CPU)
    counted = Counted(policy.model.layers[0].mlp)
    token_logps(policy, collate(SEQUENCES, pad_token_id=PAD, device=CPU), is_plain=True)
    assert counted.positions == [sum(map(len, SEQUENCES)) - NUM_SHARED]


class LargestTensor(torch.overrides.TorchFunctionMode):
    """The most elements of any tensor with a last dimension of `width`, made inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.rows = width, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dim() and made.shape[-1] == self.width:
            self.rows = max(self.rows, made.numel() // self.width)
        return made


@pytest.mark.parametrize("packs", [False, True])
def test_only_completion_positions_meet_the_vocabulary_and_in_chunks(
    packs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no other tensor's last dimension is 97; 3 rows a chunk of 17 completion tokens
    policy = load_plain(make_policy(tmp_path, vocab_size=97))
    if packs:
        pack(policy, CPU)
    monkeypatch.setattr(linear_logps, "__kwdefaults__", {"chunk_elements": 3 * 97})
    batch = collate(SEQUENCES, pad_token_id=PAD, device=CPU)
    with LargestTensor(97) as largest:
        token_logps(policy, batch, is_plain=True).sum()
    assert largest.rows == 3


def test_a_forward_of_its_own_projects_completion_columns_only(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))
    counted = Counted(policy.lm_head)
    sequences = [TokenSequence((5, 6, 7, 8, 9), (10, 1)), TokenSequence((5, 6, 7, 8), (11, 1))]
    batch = collate(sequences, pad_token_id=PAD, device=CPU)
    values = token_logps(policy, batch, is_plain=False)
    assert counted.positions == [2 * 3]  # columns 3, 4 and 5 of two rows of 7
    torch.testing.assert_close(values, token_logps(policy, batch, is_plain=True))


def test_a_head_that_is_not_plain_holds_few_logits_without_a_backward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_plain(make_gemma2(tmp_path, vocab_size=97, final_logit_softcapping=2.0))
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 14 * 97)
    with LargestTensor(97) as largest:
        table = reference.precompute(
            policy,
            SEQUENCES,
            join_train_ranks(1, LaunchSettings(device="cpu"), torch.float32),
            pad_token_id=PAD,
            max_tokens=1000,
            is_plain=has_plain_head(policy),
            on_progress=lambda _done, _total: None,
        )
    assert 0 < largest.rows <= 14
    for sequence in SEQUENCES:
        if sequence.completion:
            alone = token_logps_alone(policy, sequence.prompt, sequence.completion)
            torch.testing.assert_close(table.of(sequence).double(), alone, atol=2e-6, rtol=0)


def test_a_model_with_a_window_stays_padded() -> None:
    windowed = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)).eval()
    pack(windowed, CPU)
    assert not is_packed(windowed)
    whole = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)).eval()
    pack(whole, CPU)
    assert is_packed(whole)


class Leaking(LlamaForCausalLM):
    """A decoder that mixes neighbouring tokens outside its attention."""

    def get_decoder(self) -> Any:
        def decoder(**inputs: Any) -> Any:
            output = self.model(**inputs)
            output.last_hidden_state = output.last_hidden_state.cumsum(1)
            return output

        return decoder


def test_a_model_whose_sequences_would_see_each_other_stays_padded(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))
    leaking = Leaking(policy.config).eval()
    pack(leaking, CPU)
    assert not is_packed(leaking)
    assert leaking.config._attn_implementation == "sdpa"


def test_a_model_of_no_numbers_stays_padded(tmp_path: Path) -> None:
    policy = load_plain(make_policy(tmp_path))
    policy.model.norm.weight.data.fill_(float("nan"))
    pack(policy, CPU)
    assert not is_packed(policy)


def test_microbatches_of_any_size_train_the_same_and_leave_no_trace_in_the_checkpoint(
    tmp_path: Path,
) -> None:
    policy = make_policy(tmp_path / "policy")
    settings: dict[str, Any] = {
        "rows": pairs(12), "model": policy, "reference": policy, "loss": {"kind": "dpo"},
        "batch_size": 6, "num_epochs": 2, "lr": 1e-4,
    }  # fmt: skip
    small = make_attempt(tmp_path / "small", microbatch_tokens=30, **settings)
    large = make_attempt(tmp_path / "large", microbatch_tokens=4000, **settings)
    train(small)
    train(large)
    for step in (1, 2, 3, 4):
        for name in ("loss", "grad_norm", "implicit_reward_margin"):
            expected = metrics(large)[step][name]
            assert metrics(small)[step][name] == pytest.approx(expected, abs=1e-6, rel=1e-5)
    start, one, other = (weights_of(p) for p in (policy, small.checkpoint, large.checkpoint))
    for name, weight in one.items():
        update = (other[name] - start[name]).norm()
        assert (weight - other[name]).norm() <= 1e-3 * update
    assert PACKED not in (large.checkpoint / "config.json").read_text()

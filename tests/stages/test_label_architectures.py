"""Reward models of the architectures that people have: encoders, decoders, hybrids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.stages.prepare.model_checks import check_judge
from halos_backend.store.run_dir import RunDir

from tests.support.architectures import make_model
from tests.support.label_fixtures import (
    VOCABULARY,
    expected_ids,
    label,
    make_attempt,
    ragged_groups,
    reasons_of,
    reward_model_judge,
    rewards_of,
    save_tokenizer,
)

PAD = VOCABULARY["<pad>"]
ROWS = 32
"""Of position tables, and the limit of rotary positions."""
BODY: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": ROWS,
    "pad_token_id": PAD,
    "num_labels": 1,
    "bos_token_id": None,
    "eos_token_id": VOCABULARY["<eos>"],
}
DECODER: dict[str, Any] = {**BODY, "num_key_value_heads": 2}
JUDGES: dict[str, tuple[t.PretrainedConfig, int]] = {
    "bert": (t.BertConfig(**BODY), ROWS),
    "roberta": (t.RobertaConfig(**BODY), ROWS - PAD - 1),
    "deberta": (
        t.DebertaV2Config(**BODY, relative_attention=True, position_biased_input=False),
        ROWS,
    ),
    "distilbert": (
        t.DistilBertConfig(
            vocab_size=len(VOCABULARY),
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=32,
            max_position_embeddings=ROWS,
            pad_token_id=PAD,
            num_labels=1,
        ),
        ROWS,
    ),
    "llama": (t.LlamaConfig(**DECODER), ROWS),
    "qwen3": (t.Qwen3Config(**DECODER, head_dim=8), ROWS),
    "gemma2": (
        t.Gemma2Config(**DECODER, head_dim=8, query_pre_attn_scalar=8, sliding_window=8),
        ROWS,
    ),
    "qwen3_next": (
        t.Qwen3NextConfig(
            **DECODER,
            head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            linear_num_value_heads=4,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
        ROWS,
    ),
}
"""Each with the longest conversation that it can judge."""


def check(path: Path) -> None:
    table = {
        "policy": {"path": "unused"},
        "prompts": {"path": "unused"},
        "label": {"judge": reward_model_judge(path), "feedback": {"kind": "pairwise"}},
        "train": {"loss": {"kind": "dpo"}},
    }
    check_judge(RunSettings.model_validate(table), RunDir(path.parent))


def save_judge(name: str, path: Path) -> Path:
    model = make_model(JUDGES[name][0], t.AutoModelForSequenceClassification)
    model.save_pretrained(path)
    save_tokenizer(path)
    return path


@pytest.mark.parametrize("name", JUDGES)
def test_rewards_of_a_batch_are_those_of_each_alone_and_what_is_too_long_has_none(
    name: str, tmp_path: Path
) -> None:
    path, longest = save_judge(name, tmp_path / name), JUDGES[name][1]
    check(path)
    groups = ragged_groups(3, 3)
    attempt = make_attempt(tmp_path / "attempt", groups, reward_model_judge(path))
    label(attempt)

    plain = t.AutoModelForSequenceClassification.from_pretrained(path).eval()
    rows = [expected_ids(group, c) for group in groups for c in group.completions]
    assert {len(ids) > longest for ids in rows} == {True, False}
    for ids, reward, reason in zip(rows, rewards_of(attempt), reasons_of(attempt), strict=True):
        if len(ids) > longest:
            assert (reward, reason) == (None, "too long")
        else:
            with torch.no_grad():
                expected = float(plain(input_ids=torch.tensor([ids])).logits[0, 0])
            assert reward == pytest.approx(expected, abs=1e-5)


def test_a_judge_whose_template_writes_a_token_without_an_embedding_is_refused_at_the_check(
    tmp_path: Path,
) -> None:
    path = save_judge("llama", tmp_path / "llama")
    tokenizer = t.AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = "<turn> {{ messages[0]['content'] }}"
    tokenizer.save_pretrained(path)
    last = len(VOCABULARY)
    with pytest.raises(UsageError, match=rf"gives token {last}, but the model knows only {last}"):
        check(path)


def test_a_judge_whose_padding_has_no_embedding_judges_as_without_padding(tmp_path: Path) -> None:
    config = t.LlamaConfig(**{**DECODER, "pad_token_id": None})
    path = tmp_path / "judge"
    make_model(config, t.AutoModelForSequenceClassification).save_pretrained(path)
    save_tokenizer(path)
    groups = ragged_groups(2, 2, longest=10)
    first = make_attempt(tmp_path / "1" / "attempt", groups, reward_model_judge(path))
    label(first)
    file = path / "config.json"
    file.write_text(file.read_text().replace('"pad_token_id": null', '"pad_token_id": 67'))
    second = make_attempt(tmp_path / "2" / "attempt", groups, reward_model_judge(path))
    label(second)
    assert '"pad_token_id": 67' in file.read_text()
    assert rewards_of(second) == rewards_of(first)

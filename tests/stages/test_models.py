"""Loading tokenizers and models, how much they see, and what goes along with them."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.config.schema import PolicySettings
from halos_backend.errors import UsageError
from halos_backend.stages.carried_files import LARGEST_BYTES
from halos_backend.stages.model_limits import NO_LIMIT, context_length, usable_context
from halos_backend.stages.models import (
    empty_classifier,
    load_config,
    load_policy,
    load_tokenizer,
    surplus_weights,
)
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BloomConfig,
    FalconConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    MPNetConfig,
    MPNetForSequenceClassification,
    MptConfig,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tests.support.train_fixtures import make_attempt, make_policy, pairs, train, weights_of

DPO: dict[str, Any] = {"kind": "dpo"}


def scaled(kind: str) -> dict[str, Any]:
    return {"rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 50}


def test_a_tokenizer_is_read_again_only_where_its_files_are_others(tmp_path: Path) -> None:
    first = make_policy(tmp_path / "first")
    second = Path(shutil.copytree(first, tmp_path / "second"))
    settings = PolicySettings(path=str(first))
    tokenizer = load_tokenizer(str(first), settings)
    (second / "model.safetensors").write_bytes(b"other weights")
    assert load_tokenizer(str(second), settings) is tokenizer

    (second / "chat_template.jinja").write_text("{{ messages[0]['content'] }} w9")
    other = load_tokenizer(str(second), settings)
    assert other is not tokenizer
    assert other.chat_template.endswith("w9")


def test_another_chat_template_of_the_settings_is_another_tokenizer(tmp_path: Path) -> None:
    policy, template = make_policy(tmp_path / "policy"), tmp_path / "own.jinja"
    template.write_text("{{ messages[0]['content'] }} w8")
    settings = PolicySettings(path=str(policy), chat_template=str(template))
    assert load_tokenizer(str(policy), settings).chat_template.endswith("w8")
    template.write_text("{{ messages[0]['content'] }} w7")
    assert load_tokenizer(str(policy), settings).chat_template.endswith("w7")


def with_adapter(model: Path, base: str = "some/base") -> Path:
    """Random adapters beside the model's weights, as a merge leaves them."""
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    auto = AutoModelForCausalLM if "policy" in model.name else AutoModelForSequenceClassification
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(auto.from_pretrained(model), config).save_pretrained(model)
    return model


def test_adapters_beside_weights_are_left_alone(tmp_path: Path) -> None:
    plain = make_policy(tmp_path / "plain")
    policy = with_adapter(Path(shutil.copytree(plain, tmp_path / "policy")))
    ids = torch.tensor([[5, 9, 33]])
    expected = AutoModelForCausalLM.from_pretrained(plain)(ids).logits
    assert not torch.allclose(AutoModelForCausalLM.from_pretrained(policy)(ids).logits, expected)

    settings = PolicySettings(path=str(policy))
    model = load_policy(str(policy), settings, dtype=torch.float32)
    assert torch.equal(model(ids).logits, expected)
    assert model.name_or_path == str(policy)
    assert surplus_weights(str(policy)) == "adapter_model.safetensors"
    assert surplus_weights(str(plain)) is None


def test_a_checkpoint_of_a_policy_with_adapters_beside_it_loads_alone(tmp_path: Path) -> None:
    policy = with_adapter(make_policy(tmp_path / "policy"))
    attempt = make_attempt(tmp_path / "1", pairs(4), model=policy, reference=policy, loss=DPO)
    train(attempt)
    assert not list(attempt.checkpoint.glob("adapter_*"))
    assert weights_of(attempt.checkpoint).keys() == weights_of(policy).keys()


def test_a_directory_with_an_adapter_alone_is_refused_with_the_way_to_merge_it(
    tmp_path: Path,
) -> None:
    policy = with_adapter(make_policy(tmp_path / "policy"))
    for name in ("config.json", "model.safetensors"):
        (policy / name).unlink()
    with pytest.raises(UsageError, match=r"holds an adapter .*merge_and_unload"):
        load_config(str(policy), trust_remote_code=False)


def test_other_files_go_along_and_nothing_else_does(tmp_path: Path) -> None:
    policy = with_adapter(make_policy(tmp_path / "policy"))
    carried = ["preprocessor_config.json", "processor_config.json", "modeling_own.py", "LICENSE"]
    left = ["pytorch_model.bin", "model.gguf", "optimizer.pt", "trainer_state.json", ".hidden"]
    left += ["model.onnx", "pytorch_model.bin.index.json", "training_args.json"]
    for name in (*carried, *left):
        (policy / name).write_text(name)
    for name in ("templates/tool.jinja", "onnx/model.onnx", "onnx/notes.txt", ".git/config"):
        (policy / name).parent.mkdir(exist_ok=True)
        (policy / name).write_text(name)
    with (policy / "huge.json").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    attempt = make_attempt(tmp_path / "1", pairs(4), model=policy, reference=policy, loss=DPO)
    train(attempt)

    names = {
        path.relative_to(attempt.checkpoint).as_posix()
        for path in attempt.checkpoint.rglob("*")
        if path.is_file()
    }
    assert {*carried, "templates/tool.jinja"} <= names
    assert not names & {*left, "onnx/model.onnx", "onnx/notes.txt", ".git/config", "huge.json"}
    assert not {name for name in names if name.startswith("adapter_")}

    fork = attempt.checkpoint
    second = make_attempt(tmp_path / "2", pairs(4), model=fork, reference=fork, loss=DPO)
    train(second)
    assert (second.checkpoint / "processor_config.json").read_text() == "processor_config.json"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(max_position_embeddings=50), 50),
        (MistralConfig(max_position_embeddings=50, sliding_window=8), 50),
        (BloomConfig(), NO_LIMIT),
        (FalconConfig(alibi=True), NO_LIMIT),
        (MptConfig(max_seq_len=50), 50),
        (LlamaConfig(max_position_embeddings=50, rope_scaling=scaled("linear")), 200),
        (LlamaConfig(max_position_embeddings=50, rope_scaling=scaled("dynamic")), 200),
        (LlamaConfig(max_position_embeddings=200, rope_scaling=scaled("yarn")), 200),
        (Gemma3TextConfig(max_position_embeddings=50, rope_scaling=scaled("linear")), 50),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "model_type") else str(value),
)
def test_the_context_is_what_the_configuration_means(config: Any, expected: int) -> None:
    assert context_length(config) == expected


ENCODER: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
}


def test_modules_alone_tell_the_usable_context(tmp_path: Path) -> None:
    RobertaConfig(**ENCODER).save_pretrained(tmp_path)
    empty = empty_classifier(str(tmp_path), trust_remote_code=False)
    assert usable_context(empty) == 18
    assert {weight.device.type for weight in empty.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (RobertaForSequenceClassification(RobertaConfig(**ENCODER)), 18),
        (MPNetForSequenceClassification(MPNetConfig(**ENCODER)), 18),
        (BertForSequenceClassification(BertConfig(**ENCODER)), 20),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_usable_context_is_the_longest_that_the_model_computes(
    model: Any, expected: int
) -> None:
    assert usable_context(model) == expected
    model(torch.full((1, expected), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, expected + 1), 7))

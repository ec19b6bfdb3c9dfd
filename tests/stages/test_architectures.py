"""A round of each architecture that people train, from the check to a plain checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from halos_backend import atomic
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.findings import Prepared, refuse_inputs
from halos_backend.stages.label.stage import execute as label_round
from halos_backend.stages.model_limits import is_recurrent
from halos_backend.stages.packing import is_packed, pack
from halos_backend.stages.prepare.prepare import prepare
from halos_backend.stages.runtime import StageResult, open_attempt
from halos_backend.stages.sample.stage import sample_round
from halos_backend.stages.train.collate import collate
from halos_backend.stages.train.examples import TokenSequence
from halos_backend.stages.train.logps import has_plain_head, token_logps
from halos_backend.stages.train.model_cache import ModelCache
from halos_backend.stages.train.train_round import train_round
from halos_backend.stages.train.trainee import enable_checkpointing, is_checkpointed
from halos_backend.store.job import Job, LabelInputs, SampleInputs, TrainInputs, write_job
from halos_backend.store.manifest import write_done
from halos_backend.store.run_dir import AttemptDir, RunDir

from tests.support.architectures import (
    EACH,
    HEADS,
    IDS,
    LLAMA,
    make_architecture,
    make_model,
)
from tests.support.train_fixtures import (
    PAD,
    VOCABULARY,
    load_plain,
    save_policy,
    token_logps_alone,
)

JUDGE = """
def reward(prompt, completion, row):
    return sum(map(ord, completion)) % 101 / 100
"""
PROMPTS = ["w5 w9 w33 w12 w60 w7 w7 w21 w40 w41 w42 w8", "w17", "w50 w51 w6", "w4 w30 w31 w32 w33"]
ADAPTED = ["llama", "qwen3_moe", "qwen3_next", "lfm2", "gemma3", "gpt2", "bloom", "mixtral"]


class Round:
    """One round of a policy: prepare, sample, label, train; each in this process."""

    def __init__(self, path: Path, policy: Path, **train: Any) -> None:
        self.path, self.policy = path, policy
        path.mkdir(exist_ok=True)
        (path / "judge.py").write_text(JUDGE)
        rows = [json.dumps({"prompt": prompt}) for prompt in PROMPTS]
        (path / "prompts.jsonl").write_text("\n".join(rows))
        self.run_dir = RunDir(path / "run")
        self.run_dir.path.mkdir()
        self.settings = RunSettings.model_validate(
            {
                "policy": {"path": str(policy)},
                "prompts": {"path": str(path / "prompts.jsonl")},
                "loop": {"prompts_per_round": len(PROMPTS)},
                "sample": {"engine": "transformers", "group_size": 3, "max_new_tokens": 9},
                "label": {
                    "judge": {"kind": "function", "function": f"{path}/judge.py:reward"},
                    "feedback": {"kind": "pairwise"},
                },
                "train": {"loss": {"kind": "dpo"}, "lr": 1e-2, "batch_size": 4, **train},
                "launch": {"num_threads": 1, "device": "cpu"},
            }
        )

    def prepare(self) -> Prepared:
        """What the check found. Raises InputsError."""
        written = self.settings.model_dump_json().encode()
        atomic.write_bytes(self.run_dir.resolved_config, written)
        found = prepare(self.run_dir)
        refuse_inputs(found)
        return found

    def run(self, cache: ModelCache | None = None) -> Path:
        """The checkpoint."""
        self.prepare()
        policy, prompts = str(self.policy), str(self.run_dir.prompts)
        sample = self._attempt("sample", SampleInputs(policy, 0, prompts, 0, 4, base=policy))
        _done(sample, sample_round(open_attempt(sample.path)))
        label = self._attempt("label", LabelInputs(str(sample.completions)))
        _done(label, label_round(open_attempt(label.path)))
        inputs = TrainInputs(
            model=policy,
            initial=policy,
            reference=policy,
            feedback=str(label.feedback),
            completions=str(sample.completions),
            trainer_state=None,
            progress_start=0.0,
            progress_end=0.5,
            first_step=0,
        )
        train = self._attempt("train", inputs)
        self.trained = _done(train, train_round(open_attempt(train.path), cache))
        return train.checkpoint

    def _attempt(self, stage: Any, inputs: SampleInputs | LabelInputs | TrainInputs) -> AttemptDir:
        directory = AttemptDir(self.path / stage)
        directory.path.mkdir()
        settings = self.settings.model_dump(mode="json")
        job = Job("run", 1, stage, 1, 7, 1, 1, settings, inputs)
        write_job(directory.job, job)
        return directory


def _done(attempt: AttemptDir, result: StageResult) -> dict[str, Any]:
    write_done(attempt.path, result.outputs, result.summary.as_json())
    return result.summary.as_json()


def logits(model: Any, ids: Sequence[int] = (5, 9, 33, 12, 60, 7, 21, 40, 41, 42, 8)) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits


@pytest.mark.parametrize("name", EACH)
def test_a_round_leaves_what_plain_transformers_loads(name: str, tmp_path: Path) -> None:
    policy, cache = make_architecture(name, tmp_path / name), ModelCache()
    (policy / "preprocessor_config.json").write_text("{}")
    round = Round(tmp_path / "round", policy)
    checkpoint = round.run(cache)

    assert cache._trained is not None
    trained, plain, before = (
        cache._trained.trainee.model,
        load_plain(checkpoint),
        load_plain(policy),
    )
    torch.testing.assert_close(logits(plain), logits(trained), rtol=1e-5, atol=1e-5)
    assert (logits(plain) - logits(before)).abs().max() > 1e-3
    assert round.trained["canary_diff_mean"] < 1e-4
    assert (checkpoint / "preprocessor_config.json").is_file()
    assert not (checkpoint / "adapter_config.json").exists()


@pytest.mark.parametrize("name", ADAPTED)
def test_adapters_are_trained_and_merged_into_a_plain_checkpoint(name: str, tmp_path: Path) -> None:
    policy = make_architecture(name, tmp_path / name)
    checkpoint = Round(tmp_path / "round", policy, lora={"r": 4}).run()
    plain, before = load_plain(checkpoint), load_plain(policy)
    assert plain.state_dict().keys() == before.state_dict().keys()
    assert (logits(plain) - logits(before)).abs().max() > 1e-4
    assert not (checkpoint / "adapter_config.json").exists()


@pytest.mark.parametrize("name", EACH)
def test_sequences_of_a_batch_do_not_see_each_other_padded_packed_or_checkpointed(
    name: str, tmp_path: Path
) -> None:
    model = load_plain(make_architecture(name, tmp_path / name))
    sequences = [
        TokenSequence((5, 9, 33, 12, 60, 7, 7, 21, 40, 41), (42, 8, 1)),
        TokenSequence((5, 9, 33, 12, 60, 7, 7, 21, 40, 41), (17, 18, 19, 20, 1)),
        TokenSequence((50, 51), (6, 1)),
    ]
    alone = [token_logps_alone(model, s.prompt, s.completion) for s in sequences]
    batch = collate(sequences, pad_token_id=PAD, device=torch.device("cpu"))
    expected = batch.unflatten(torch.cat(alone).float()).detach()
    torch.cat(alone).sum().backward()
    gradient = gradient_of(model)

    is_plain = has_plain_head(model)

    def check() -> None:
        found = token_logps(model, batch, is_plain=is_plain)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        found.sum().backward()
        assert (gradient_of(model) - gradient).norm() <= 1e-4 * gradient.norm()

    check()
    if is_plain:
        pack(model, torch.device("cpu"))
        assert not (is_packed(model) and is_recurrent(model))
        check()
    if model.supports_gradient_checkpointing:
        enable_checkpointing(model)
        for module in model.modules():
            module.training = is_checkpointed(module)
        check()


def gradient_of(model: Any) -> torch.Tensor:
    """All of it, which is taken away."""
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return torch.cat(parts)


BART: dict[str, Any] = {
    **IDS,
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
REFUSED: dict[str, tuple[t.PretrainedConfig, Any, str]] = {
    "bert": (t.BertConfig(**HEADS), t.AutoModelForMaskedLM, "is Bert, which does not write text"),
    "bart": (t.BartConfig(**BART), t.AutoModelForSeq2SeqLM, "is Bart, which does not write text"),
    "gpt": (
        t.OpenAIGPTConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=64),
        t.AutoModelForCausalLM,
        "OpenAIGPTLMHeadModel gives back nothing of past tokens",
    ),
    "recurrent_gemma": (
        t.RecurrentGemmaConfig(
            **{**LLAMA, "num_hidden_layers": 3}, head_dim=8, lru_width=32, attention_window_size=8
        ),
        t.AutoModelForCausalLM,
        "RecurrentGemmaForCausalLM gives back nothing of past tokens",
    ),
    "classifier": (
        t.LlamaConfig(**LLAMA),
        t.AutoModelForSequenceClassification,
        "is no whole LlamaForCausalLM: its weights have no lm_head.weight",
    ),
    "vision": (
        t.Qwen2VLConfig(
            text_config={
                **LLAMA,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
            },
            vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        ),
        t.AutoModelForImageTextToText,
        "Qwen2VLConfig",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_policy_is_refused_by_name_at_the_check(name: str, tmp_path: Path) -> None:
    config, auto_class, why = REFUSED[name]
    policy = save_policy(make_model(config, auto_class), tmp_path / name)
    with pytest.raises(UsageError, match=why):
        Round(tmp_path / "round", policy).prepare()


@pytest.mark.parametrize(
    ("train", "why"),
    [
        ({"lora": {"target_modules": ["no_such"]}}, "target_modules"),
        ({"lora": {"target_modules": ["out_proj"]}}, "Mamba"),
    ],
    ids=["names", "mamba"],
)
def test_adapters_that_cannot_be_are_refused_at_the_check(
    train: dict[str, Any], why: str, tmp_path: Path
) -> None:
    policy = make_architecture("mamba2", tmp_path / "mamba2")
    with pytest.raises(UsageError, match=why):
        Round(tmp_path / "round", policy, **train).prepare()


def test_a_quantized_policy_is_refused_at_the_check(tmp_path: Path) -> None:
    policy = make_architecture("llama", tmp_path / "llama")
    change(policy / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UsageError, match=r"is quantized \(gptq\)"):
        Round(tmp_path / "round", policy).prepare()


def test_weights_of_another_size_than_the_configuration_are_refused_at_the_check(
    tmp_path: Path,
) -> None:
    policy = make_architecture("llama", tmp_path / "llama")
    change(policy / "config.json", vocab_size=VOCABULARY + 1)
    with pytest.raises(UsageError, match=r"lm_head.weight of shape \(64, 32\)"):
        Round(tmp_path / "round", policy).prepare()


def test_a_padding_id_without_an_embedding_is_left_out(tmp_path: Path) -> None:
    policy = make_architecture("llama", tmp_path / "llama")
    change(policy / "config.json", pad_token_id=VOCABULARY)
    add_token(policy, "<new pad>", as_="pad_token")
    checkpoint = Round(tmp_path / "round", policy).run()
    assert load_plain(checkpoint).config.pad_token_id is None


def test_an_end_token_without_an_embedding_is_refused_at_the_check(tmp_path: Path) -> None:
    policy = make_architecture("llama", tmp_path / "llama")
    add_token(policy, "<new end>", as_="eos_token")
    with pytest.raises(
        UsageError, match=r"end token 64 \('<new end>'\).*resize_token_embeddings\(65\)"
    ):
        Round(tmp_path / "round", policy).prepare()


def test_a_prompt_with_a_token_that_has_no_embedding_is_refused_at_the_check(
    tmp_path: Path,
) -> None:
    policy = make_architecture("llama", tmp_path / "llama")
    add_token(policy, "<turn>")
    (policy / "chat_template.jinja").write_text("<turn> {{ messages[0]['content'] }}")
    with pytest.raises(UsageError, match=r"row 1: .* token 64 \('<turn>'\).*embedding of 64"):
        Round(tmp_path / "round", policy).prepare()


def test_a_prompt_of_no_tokens_is_refused_at_the_check(tmp_path: Path) -> None:
    policy = make_architecture("llama", tmp_path / "llama")
    (policy / "chat_template.jinja").write_text("{{ '' }}")
    with pytest.raises(UsageError, match=r"row 1: .*makes no tokens of"):
        Round(tmp_path / "round", policy).prepare()


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def add_token(policy: Path, token: str, *, as_: str | None = None) -> None:
    """A token that the policy was not resized for."""
    tokenizer = t.AutoTokenizer.from_pretrained(policy)
    tokenizer.add_special_tokens({as_: token} if as_ else {"additional_special_tokens": [token]})
    tokenizer.save_pretrained(policy)

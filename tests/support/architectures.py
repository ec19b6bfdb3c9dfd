"""Tiny random models of the architectures that people train, with the tokenizer of these tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from transformers import PreTrainedModel

from tests.support.train_fixtures import GEMMA, TEMPLATE, VOCABULARY, save_policy

IDS: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
BODY: dict[str, Any] = {**IDS, "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
LLAMA: dict[str, Any] = {
    **BODY,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
WINDOW = 8
"""Tokens of the sliding windows: fewer than the tests' prompts have."""
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "head_dim": 8,
}
LINEAR: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 8,
}
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_chunk_size": WINDOW,
}
GPT2: dict[str, Any] = {
    **IDS,
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
HEADS: dict[str, Any] = {**BODY, "num_attention_heads": 4}

POLICIES: dict[str, Callable[[], t.PretrainedConfig]] = {
    "llama": lambda: t.LlamaConfig(**LLAMA),
    "qwen2": lambda: t.Qwen2Config(**LLAMA, tie_word_embeddings=True),
    "qwen3": lambda: t.Qwen3Config(**LLAMA, head_dim=8),
    "qwen3_moe": lambda: t.Qwen3MoeConfig(**LLAMA, **EXPERTS),
    "qwen3_next": lambda: t.Qwen3NextConfig(
        **LLAMA, **{**LINEAR, **EXPERTS}, shared_expert_intermediate_size=16
    ),
    "qwen3_5": lambda: t.Qwen3_5TextConfig(**LLAMA, **LINEAR),
    "lfm2": lambda: t.Lfm2Config(
        **LLAMA,
        layer_types=["conv", "full_attention"],
        block_auto_adjust_ff_dim=False,
        conv_bias=True,
    ),
    "mistral": lambda: t.MistralConfig(**LLAMA, sliding_window=WINDOW),
    "mixtral": lambda: t.MixtralConfig(**LLAMA, num_local_experts=4),
    "gemma2": lambda: t.Gemma2Config(**GEMMA, sliding_window=WINDOW),
    "gemma3_text": lambda: t.Gemma3TextConfig(
        **GEMMA, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]
    ),
    "gemma3": lambda: t.Gemma3Config(
        text_config=GEMMA, vision_config=VISION, mm_tokens_per_image=4
    ),
    "phi3": lambda: t.Phi3Config(**LLAMA),
    "gpt2": lambda: t.GPT2Config(**GPT2),
    "opt": lambda: t.OPTConfig(
        **HEADS, ffn_dim=64, max_position_embeddings=128, word_embed_proj_dim=32
    ),
    "bloom": lambda: t.BloomConfig(
        **IDS, vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4
    ),
    "falcon": lambda: t.FalconConfig(**HEADS),
    "falcon_alibi": lambda: t.FalconConfig(**HEADS, alibi=True),
    "gpt_neox": lambda: t.GPTNeoXConfig(**HEADS, intermediate_size=64, max_position_embeddings=128),
    "granite": lambda: t.GraniteConfig(**LLAMA, logits_scaling=2.0, residual_multiplier=0.5),
    "olmo2": lambda: t.Olmo2Config(**LLAMA),
    "mamba": lambda: t.MambaConfig(**BODY, state_size=8),
    "mamba2": lambda: t.Mamba2Config(
        **BODY, num_heads=8, head_dim=8, state_size=8, n_groups=2, chunk_size=WINDOW
    ),
    "falcon_h1": lambda: t.FalconH1Config(**LLAMA, **MAMBA, mamba_d_ssm=64),
    "bamba": lambda: t.BambaConfig(**LLAMA, **MAMBA, attn_layer_indices=[1]),
    "cohere": lambda: t.CohereConfig(**LLAMA),
    "stablelm": lambda: t.StableLmConfig(**LLAMA),
    "gpt_oss": lambda: t.GptOssConfig(
        **LLAMA, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=WINDOW
    ),
}
"""Gemma 3 twice: without its eyes and with them."""
TYPICAL = ("llama", "gemma3", "lfm2", "mamba2", "qwen3_moe", "gpt2")
"""One of each kind: plain attention, windows and eyes, a hybrid, states alone, experts, positions
that are learned.
"""
EACH = [pytest.param(name, marks=() if name in TYPICAL else pytest.mark.slow) for name in POLICIES]
"""All of them for the whole gate, the typical ones for `make test`."""


def make_model(config: t.PretrainedConfig, auto_class: Any = t.AutoModelForCausalLM) -> Any:
    """In evaluation mode; every weight is random, biases and states' decays too."""
    torch.manual_seed(0)
    model: PreTrainedModel = auto_class.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.15)
    return model.eval()


def make_architecture(name: str, path: Path) -> Path:
    """A policy's directory."""
    save_policy(make_model(POLICIES[name]()), path)
    if name == "qwen2":  # whose tokenizer is read as bytes, whatever its files say
        symbols = ["<pad>", "<end>", *(str(digit) for digit in range(10)), "w", "\u0120"]
        tokenizer = t.Qwen2Tokenizer(
            vocab={symbol: index for index, symbol in enumerate(symbols)},
            merges=[],
            pad_token="<pad>",
            eos_token="<end>",
            unk_token="w",
        )
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(path)
    return path

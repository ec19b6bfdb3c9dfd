"""Real vLLM on the CPU, in an environment of its own: `make test-vllm` names its python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support.foreign import preloaded
from tests.support.forks import forking_python
from tests.support.place import JUDGE, Place, make_tokenizer

PYTHON = "HALOS_VLLM_PYTHON"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of their own for what our programs cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALOS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def plain_python() -> str:
    """The python of the environment that has vLLM, for tests of how its processes begin and die."""
    path = os.environ.get(PYTHON)
    if path is None or not Path(path).is_file():
        pytest.skip("vLLM has no environment here; run make test-vllm")
    return path


@pytest.fixture(scope="session")
def vllm_python(plain_python: str, cache: None) -> str:
    """The same python; the stages that it starts have imported vLLM, which takes them 10 s."""
    return preloaded(plain_python)


def make_tiny_policy(
    path: Path, *, seed: int = 3, is_tied: bool = True, dtype: torch.dtype = torch.float32
) -> Path:
    """A random Llama with heads of 32, the smallest that vLLM's attention on a CPU takes."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=is_tied,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


def make_place(path: Path) -> Place:
    """A place whose policy vLLM takes."""
    make_tiny_policy(path / "policy")
    words = ["hello", "the quick brown fox", "zebra", "one two three", "x y z", "mm"]
    rows = [f'{{"prompt": "{words[i % 6]} {"abcdefghijkl"[i]}"}}\n' for i in range(12)]
    (path / "prompts.jsonl").write_text("".join(rows))
    (path / "judge.py").write_text(JUDGE)
    return Place(path, forking_python())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)

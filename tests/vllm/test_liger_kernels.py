"""Liger's own kernels, interpreted on a CPU, where vLLM's environment has Triton."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.support.command_line import SUPPORT
from tests.vllm.conftest import make_tiny_policy

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).resolve().parents[2]
IDS = [1, 5, 9, 13, 4, 7, 22, 30, 2]


def drive(python: str, policies: Sequence[Path]) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [python, str(SUPPORT / "drive_liger.py"), json.dumps(IDS), *policies],
        env={**os.environ, "PYTHONPATH": str(ROOT / "backend"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def results(plain_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of each architecture; in one process, for the libraries take longest."""
    folder = tmp_path_factory.mktemp("liger")
    policies = [make_tiny_policy(folder / "llama"), make_qwen3(folder / "qwen3")]
    return dict(zip(("llama", "qwen3"), drive(plain_python, policies), strict=True))


def make_qwen3(path: Path) -> Path:
    """Its attention has norms of its own."""
    torch.manual_seed(5)
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        initializer_range=0.2,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_log_probabilities_and_gradients_equal_torchs(name: str, results: dict[str, Any]) -> None:
    found = results[name]
    assert found["reason"] is None
    assert found["used"]
    assert found["logps"]["liger"] == pytest.approx(found["logps"]["torch"], abs=1e-4)
    assert found["gradients"]
    assert max(found["gradients"].values()) < 1e-4
    assert found["back"]

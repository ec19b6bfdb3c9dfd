"""What processes agree on before a round, in a process that has had other rounds."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from halos_backend.config.schema import LaunchSettings
from halos_backend.stages.train import ranks


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A machine that seems to have one; what Accelerate was asked for there."""
    asked: list[dict[str, Any]] = []

    def accelerator(**settings: Any) -> SimpleNamespace:
        asked.append(settings)
        return SimpleNamespace(
            device=torch.device("cuda", 0), num_processes=1, distributed_type=DistributedType.NO
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ranks, "Accelerator", accelerator)
    return asked


def test_each_round_of_a_process_has_the_precision_of_its_policy(
    gpu: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[tuple[str, torch.dtype]] = []

    def autocast(kind: str, *, dtype: torch.dtype) -> nullcontext[None]:
        contexts.append((kind, dtype))
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    found = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        contexts.clear()
        with ranks.join_ranks(1, LaunchSettings(), dtype).autocast():
            found.append(list(contexts))
    assert found == [[], [("cuda", torch.bfloat16)], [("cuda", torch.bfloat16)]]
    # Accelerate refuses to change it in a process
    assert {settings["mixed_precision"] for settings in gpu} == {"no"}


def test_a_cpu_computes_in_fp32_whatever_the_policys_dtype() -> None:
    joined = ranks.join_ranks(1, LaunchSettings(device="cpu"), torch.bfloat16)
    with joined.autocast():
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

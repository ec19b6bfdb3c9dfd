"""What processes agree on before a round, in a process that has had other rounds."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import accelerate
import pytest
import torch
from accelerate.utils import DistributedType
from halos_backend.config.schema import LaunchSettings
from halos_backend.stages.train import ranks


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine seems to have one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_each_round_of_a_process_has_the_precision_of_its_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contexts: list[tuple[str, torch.dtype]] = []

    def autocast(kind: str, *, dtype: torch.dtype) -> nullcontext[None]:
        contexts.append((kind, dtype))
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    found = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        contexts.clear()
        with ranks.join_train_ranks(1, LaunchSettings(), dtype).autocast():
            found.append(list(contexts))
    assert found == [[], [("cuda", torch.bfloat16)], [("cuda", torch.bfloat16)]]


def test_accelerate_is_asked_for_no_precision_since_it_refuses_to_change_it_in_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def accelerator(**settings: Any) -> SimpleNamespace:
        asked.append(settings)
        return SimpleNamespace(
            device=torch.device("cuda", 1),
            num_processes=2,
            process_index=1,
            distributed_type=DistributedType.MULTI_GPU,
        )

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "Accelerator", accelerator)
    joined = ranks.join_train_ranks(2, LaunchSettings(), torch.bfloat16)
    assert (joined.rank, joined.count, joined.device) == (1, 2, torch.device("cuda", 1))
    assert asked == [{"cpu": False, "mixed_precision": "no"}]


def test_a_cpu_computes_in_fp32_whatever_the_policys_dtype() -> None:
    joined = ranks.join_train_ranks(1, LaunchSettings(device="cpu"), torch.bfloat16)
    with joined.autocast():
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

"""How the trainer takes kernels of others: only those that compute the same, and for all models.

A stand-in for Liger binds and replaces as it does; Liger's own kernels are in tests/vllm and
tests/gpu.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
from halos_backend.stages.train import train_round
from halos_backend.stages.train.kernels import (
    use_kernels_of,
    use_liger,
    uses_liger,
    without_liger,
)
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.llama import modeling_llama

from tests.support.train_fixtures import (
    load_plain,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    train,
    warnings_of,
    weights_of,
)

Forward = Callable[[Any, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


def liger_with(monkeypatch: pytest.MonkeyPatch, norm: Forward) -> list[Any]:
    """A stand-in whose RMSNorm is `norm`; the models that it was given."""
    given: list[Any] = []

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return norm(self, hidden)

    forward.__module__ = "liger_kernel.transformers.rms_norm"

    def apply(model: Any, **kinds: bool) -> None:
        given.append(model)
        assert {kind for kind, asked in kinds.items() if asked} == {"rms_norm", "swiglu"}
        monkeypatch.setattr(modeling_llama, "LlamaRMSNorm", type("LigerRMSNorm", (), {}))
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.forward = MethodType(forward, module)
                module.extra_repr = MethodType(lambda self: "liger", module)

    parent, package = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    package._apply_liger_kernel_to_instance = apply  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", parent)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    return given


def by_another_way(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """The same norm in other operations."""
    size = hidden.norm(dim=-1, keepdim=True) / hidden.shape[-1] ** 0.5
    return module.weight * hidden / (size**2 + module.variance_epsilon).sqrt()


def slightly_wrong(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    return 1.01 * by_another_way(module, hidden)


def broken(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no kernel for this GPU\nand more of it")


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
    return found


def test_kernels_that_compute_the_same_are_taken_for_one_model_and_given_back(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_class = modeling_llama.LlamaRMSNorm
    liger_with(monkeypatch, by_another_way)
    model, other = load_plain(policy), load_plain(policy)
    expected = logits_of(model)
    assert use_liger(model) is None
    assert uses_liger(model) and not uses_liger(other)
    assert modeling_llama.LlamaRMSNorm is own_class
    found = logits_of(model)
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits_of(other), expected)
    without_liger(model)
    assert not uses_liger(model)
    assert torch.equal(logits_of(model), expected)
    assert "liger" not in repr(model)


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (slightly_wrong, "Liger's kernels give other hidden states than torch's"),
        (broken, "Liger's kernels do not work here, train goes on without: no kernel for this GPU"),
    ],
)
def test_kernels_that_do_not_are_left(
    policy: Path, monkeypatch: pytest.MonkeyPatch, norm: Forward, said: str
) -> None:
    liger_with(monkeypatch, norm)
    model = load_plain(policy)
    expected = logits_of(model)
    reason = use_liger(model)
    assert reason is not None and reason.startswith(said)
    assert not uses_liger(model)
    assert torch.equal(logits_of(model), expected)


def test_an_architecture_that_liger_would_change_otherwise_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = liger_with(monkeypatch, by_another_way)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2)).eval()
    assert use_liger(model) == "Liger's kernels are not for gpt2: that model goes on without"
    assert not given


def test_a_model_that_is_compared_computes_as_the_policy_does(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liger_with(monkeypatch, by_another_way)
    trained, reference = load_plain(policy), load_plain(policy)
    assert use_liger(trained) is None
    assert use_kernels_of(trained, reference) is None
    assert torch.equal(logits_of(trained), logits_of(reference))
    without_liger(trained)
    assert use_kernels_of(trained, reference) is None
    assert not uses_liger(reference)
    assert torch.equal(logits_of(trained), logits_of(reference))


def one_round(path: Path, policy: Path, kernels: str) -> Any:
    attempt = make_attempt(
        path,
        pairs(6),
        model=policy,
        reference=make_policy(path.with_name(f"{path.name}_reference")),
        loss={"kind": "dpo"},
        batch_size=3,
        kernels=kernels,
        device="auto",
    )
    train(attempt)
    return attempt


@pytest.fixture
def any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is asked for, nor a package."""
    monkeypatch.setattr(train_round, "check_kernels", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_round_computes_policy_and_reference_with_the_same_kernels(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_machine: None
) -> None:
    own = one_round(tmp_path / "torch", policy, "torch")
    given = liger_with(monkeypatch, by_another_way)
    attempt = one_round(tmp_path / "liger", policy, "liger")
    assert len(given) == 2  # the reference is of other files, with the same weights
    assert warnings_of(attempt) == []
    first = metrics(attempt)[1]
    assert first["implicit_reward_margin"] == pytest.approx(0, abs=1e-7)
    assert first["loss"] == pytest.approx(metrics(own)[1]["loss"], abs=1e-6)
    for name, weight in weights_of(own.checkpoint).items():
        torch.testing.assert_close(weights_of(attempt.checkpoint)[name], weight, rtol=0, atol=1e-3)


def test_a_round_goes_on_without_kernels_that_do_not_work_and_says_so(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_machine: None
) -> None:
    own = one_round(tmp_path / "torch", policy, "torch")
    liger_with(monkeypatch, broken)
    attempt = one_round(tmp_path / "liger", policy, "liger")
    (said,) = warnings_of(attempt)
    assert said.endswith("train goes on without: no kernel for this GPU")
    expected, found = weights_of(own.checkpoint), weights_of(attempt.checkpoint)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

"""The trainer on a GPU, against the same round on a CPU and plain transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.store.run_dir import AttemptDir
from safetensors.torch import load_file

from tests.support.gpu_worker import run_on_gpu
from tests.support.train_fixtures import (
    groups,
    load_plain,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    summary_of,
    token_logps_alone,
    train,
    unpaired,
    weights_of,
    write_completions,
)

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
LOSSES: dict[str, Any] = {"dpo": pairs(12), "kto": unpaired(12), "grpo": groups(3)}
WIDE = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6}
"""Some 80 MB of weights in fp32: more than what cuBLAS keeps for itself."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def completions(tmp_path: Path) -> Path:
    """Those of the round, for its KL."""
    return write_completions(tmp_path / "completions.jsonl", groups(2))


def moved(checkpoint: Path, start: Path) -> dict[str, torch.Tensor]:
    """How far each weight is from where it began."""
    before = weights_of(start)
    return {
        name: weight.double() - before[name].double()
        for name, weight in weights_of(checkpoint).items()
    }


def norm(tensors: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))


@pytest.mark.parametrize("kind", list(LOSSES))
def test_a_round_equals_that_of_a_cpu(kind: str, policy: Path, tmp_path: Path) -> None:
    attempts = {
        device: make_attempt(
            tmp_path / device,
            LOSSES[kind],
            model=policy,
            reference=policy,
            loss={"kind": kind},
            batch_size=4,
            num_epochs=2,
            device=device,
        )
        for device in ("cpu", "auto")
    }
    train(attempts["cpu"])
    run_on_gpu("train", attempts["auto"].path)
    expected, found = metrics(attempts["cpu"]), metrics(attempts["auto"])
    assert found.keys() == expected.keys()
    for step in range(1, max(expected) + 1):
        assert found[step]["loss"] == pytest.approx(expected[step]["loss"], abs=1e-4)
        assert found[step]["grad_norm"] == pytest.approx(expected[step]["grad_norm"], rel=1e-2)
    on_cpu = moved(attempts["cpu"].checkpoint, policy)
    on_gpu = moved(attempts["auto"].checkpoint, policy)
    # AdamW divides a gradient by its own size: where it is rounding alone, so is the step
    assert norm({name: on_gpu[name] - on_cpu[name] for name in on_cpu}) < 0.05 * norm(on_cpu)


def test_the_first_loss_of_a_bf16_policy_is_that_of_plain_fp32(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "policy", dtype=torch.bfloat16)
    other = make_policy(tmp_path / "other", seed=1, dtype=torch.bfloat16)
    rows = pairs(8)
    attempt = make_attempt(
        tmp_path / "attempt",
        rows,
        model=policy,
        reference=other,
        loss={"kind": "dpo", "beta": 0.1},
        batch_size=8,
        device="auto",
    )
    run_on_gpu("train", attempt.path)
    ours, theirs = load_plain(policy), load_plain(other)

    def logratio(row: Any, side: Any) -> torch.Tensor:
        ids = (row.prompt_token_ids, side.token_ids)
        return (token_logps_alone(ours, *ids) - token_logps_alone(theirs, *ids)).sum()

    margins = torch.stack([logratio(row, row.chosen) - logratio(row, row.rejected) for row in rows])
    expected = -torch.nn.functional.logsigmoid(0.1 * margins).mean().item()
    assert metrics(attempt)[1]["loss"] == pytest.approx(expected, rel=0.05)


def test_updates_of_a_bf16_policy_accumulate_in_fp32(tmp_path: Path, completions: Path) -> None:
    """At this learning rate a bf16 weight alone would hardly ever move."""
    policy = make_policy(tmp_path / "policy", dtype=torch.bfloat16)
    start = {name: weight.float() for name, weight in weights_of(policy).items()}
    attempts: list[AttemptDir] = []
    for number in (1, 2):
        last = attempts[-1] if attempts else None
        attempt = make_attempt(
            tmp_path / f"round_{number}",
            pairs(6),
            model=last.checkpoint if last else policy,
            initial=policy,
            completions=completions,
            reference=policy,
            trainer_state=last.trainer_state if last else None,
            loss={"kind": "dpo"},
            batch_size=6,
            num_epochs=4,
            lr=2e-7,
            round=number,
            device="auto",
        )
        run_on_gpu("train", attempt.path)
        attempts.append(attempt)
    masters = [load_file(attempt.trainer_state / "master.safetensors") for attempt in attempts]
    assert {weight.dtype for weight in masters[0].values()} == {torch.float32}
    first, second = (norm({n: m[n].double() - start[n] for n in start}) for m in masters)
    assert second > 1.8 * first > 0


def test_rounds_of_one_process_have_each_the_precision_of_their_policy(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "policy")
    other = make_policy(tmp_path / "other", seed=1)

    def attempt_in(dtype: str, name: str) -> AttemptDir:
        return make_attempt(
            tmp_path / name,
            pairs(6),
            model=policy,
            reference=other,
            loss={"kind": "dpo"},
            policy={"dtype": dtype},
            device="auto",
        )

    dtypes = ("float32", "bfloat16", "float32")
    together = [attempt_in(dtype, f"{number}_{dtype}") for number, dtype in enumerate(dtypes)]
    run_on_gpu("train", *(attempt.path for attempt in together))
    for dtype, attempt in zip(dtypes, together, strict=True):
        alone = attempt_in(dtype, f"{attempt.path.name}_alone")
        run_on_gpu("train", alone.path)
        assert metrics(attempt)[1]["loss"] == pytest.approx(metrics(alone)[1]["loss"], abs=1e-5)
    losses = [metrics(attempt)[1]["loss"] for attempt in together]
    assert losses[0] == pytest.approx(losses[2], abs=1e-5)
    assert losses[0] != pytest.approx(losses[1], abs=1e-5)


def test_a_parked_trainer_holds_no_gpu_memory_and_trains_the_same(
    tmp_path: Path, completions: Path
) -> None:
    policy = make_policy(tmp_path / "policy", **WIDE)
    num_bytes = sum(weight.nbytes for weight in weights_of(policy).values())

    def rounds(name: str) -> list[AttemptDir]:
        first = make_attempt(
            tmp_path / name / "round_1",
            pairs(6),
            model=policy,
            reference=policy,
            loss={"kind": "dpo"},
            lr=1e-5,
            device="auto",
        )
        second = make_attempt(
            tmp_path / name / "round_2",
            pairs(6, seed=4),
            model=first.checkpoint,
            initial=policy,
            completions=completions,
            reference=policy,
            trainer_state=first.trainer_state,
            loss={"kind": "dpo"},
            lr=1e-5,
            round=2,
            device="auto",
        )
        return [first, second]

    warm, cold = rounds("warm"), rounds("cold")
    held = run_on_gpu("train", *(attempt.path for attempt in warm))
    for attempt in cold:
        run_on_gpu("train", attempt.path)
    for each in held:
        assert each.at_most > 4 * num_bytes  # weights, gradients, both moments
        assert each.parked < 0.5 * num_bytes
    # the second round has a reference of its own, which is not there while the policy is trained
    assert held[1].at_most < held[0].at_most + 0.5 * num_bytes
    assert summary_of(warm[1])["peak_memory_bytes"] > 4 * num_bytes
    on_warm = moved(warm[1].checkpoint, policy)
    on_cold = moved(cold[1].checkpoint, policy)
    # kernels of a GPU may add in another order each time
    assert norm({name: on_warm[name] - on_cold[name] for name in on_cold}) < 0.05 * norm(on_cold)

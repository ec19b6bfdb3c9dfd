"""Two real processes (torchrun, gloo) against one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.records import PreferencePair
from halos_backend.store.run_dir import AttemptDir

from tests.support.train_fixtures import (
    groups,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    train,
    train_in_process,
    unpaired,
    weights_of,
    write_completions,
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("initial"), seed=1)


# 19 examples in batches of 4: five steps an epoch, the last of 3 examples, or of 1 where it is 17
CASES: dict[str, dict[str, Any]] = {
    "dpo": {"rows": pairs(17), "batch_size": 4, "num_epochs": 4, "loss": {"kind": "dpo"}},
    "kto": {"rows": unpaired(19), "batch_size": 4, "num_epochs": 4, "loss": {"kind": "kto"}},
    "grpo": {
        "rows": groups(5, size=4), "batch_size": 8, "num_epochs": 7, "loss": {"kind": "grpo"},
    },
    "sft": {"rows": unpaired(30), "batch_size": 4, "num_epochs": 4, "loss": {"kind": "sft"}},
}  # fmt: skip


def flat_update(start: Path, attempt: AttemptDir) -> torch.Tensor:
    before, after = weights_of(start), weights_of(attempt.checkpoint)
    return torch.cat([(after[name] - before[name]).flatten() for name in before])


@pytest.mark.parametrize("case", list(CASES))
def test_two_processes_equal_one(case: str, policy: Path, initial: Path, tmp_path: Path) -> None:
    completions = write_completions(tmp_path / "completions.jsonl", groups(3))
    settings: dict[str, Any] = {
        "model": policy, "reference": policy, "initial": initial, "completions": completions,
        "lr": 1e-4, "microbatch_tokens": 40, **CASES[case],
    }  # fmt: skip
    one = make_attempt(tmp_path / "one", **settings)
    two = make_attempt(tmp_path / "two", num_processes=2, **settings)
    train(one)
    train_in_process(two, num_processes=2)

    alone, together = metrics(one), metrics(two)
    assert alone.keys() == together.keys()
    assert max(alone) >= 20
    for step in alone:
        assert alone[step].keys() == together[step].keys()
        for name in alone[step].keys() - {"tokens_per_s", "implicit_reward_accuracy", "clip_frac"}:
            assert together[step][name] == pytest.approx(alone[step][name], abs=1e-5, rel=1e-4)
        if step:
            assert together[step]["loss"] == pytest.approx(alone[step]["loss"], abs=1e-5, rel=0)
    update = flat_update(policy, one)
    assert update.norm() > 1e-2
    assert (flat_update(policy, two) - update).norm() < 1e-3 * update.norm()


def test_a_rank_without_examples_takes_part(policy: Path, tmp_path: Path) -> None:
    rows: list[PreferencePair] = pairs(1)
    settings: dict[str, Any] = {
        "rows": rows, "model": policy, "reference": policy, "loss": {"kind": "dpo"},
        "num_epochs": 3,
    }  # fmt: skip
    one = make_attempt(tmp_path / "one", **settings)
    two = make_attempt(tmp_path / "two", num_processes=2, **settings)
    train(one)
    train_in_process(two, num_processes=2)
    for step in (1, 2, 3):
        for name in ("loss", "grad_norm", "implicit_reward_margin", "num_examples"):
            assert metrics(two)[step][name] == pytest.approx(metrics(one)[step][name], abs=1e-6)

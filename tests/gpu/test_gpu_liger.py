"""Liger's kernels on a GPU, against torch's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support.gpu_worker import run_on_gpu
from tests.support.train_fixtures import make_attempt, make_policy, metrics, pairs, warnings_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("liger_kernel") is None,
        reason="liger-kernel is not installed: pip install 'halos-tui[liger]'",
    ),
]


def test_a_round_equals_that_with_torchs_kernels(tmp_path: Path) -> None:
    policy, reference = make_policy(tmp_path / "policy"), make_policy(tmp_path / "other", seed=1)
    attempts = {
        kernels: make_attempt(
            tmp_path / kernels,
            pairs(12),
            model=policy,
            reference=reference,
            loss={"kind": "dpo"},
            batch_size=4,
            kernels=kernels,
            device="auto",
        )
        for kernels in ("torch", "liger")
    }
    for attempt in attempts.values():
        run_on_gpu("train", attempt.path)
    assert warnings_of(attempts["liger"]) == []
    expected, found = metrics(attempts["torch"]), metrics(attempts["liger"])
    assert found.keys() == expected.keys()
    for step in range(1, max(expected) + 1):
        assert found[step]["loss"] == pytest.approx(expected[step]["loss"], abs=1e-3)
        assert found[step]["grad_norm"] == pytest.approx(expected[step]["grad_norm"], rel=1e-2)

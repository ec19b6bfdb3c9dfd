"""`train.kernels = 'liger'`: what it goes with, and what is said where it cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from halos_backend.config import kernels
from halos_backend.config.consequences import find_consequences
from halos_backend.config.kernels import find_liger_obstacle
from halos_backend.config.load import parse_settings
from halos_backend.config.schema import RunSettings
from halos_backend.doctor.settings import examine_kernels
from halos_backend.errors import SettingsError, UsageError
from halos_backend.stages.train import kernels as train_kernels
from halos_backend.stages.train.kernels import check_kernels

from tests.support.place import make_policy


def settings(*overrides: str) -> RunSettings:
    table = {
        "policy": {"path": "policy"},
        "prompts": {"path": "prompts.jsonl"},
        "label": {
            "judge": {"kind": "function", "function": "judge.py:f"},
            "feedback": {"kind": "pairwise"},
        },
        "train": {"loss": {"kind": "dpo"}},
    }
    return parse_settings(table, source="run.toml", overrides=overrides)


def installed(version: str | None) -> Callable[[str], str]:
    """What tells a package's version."""

    def tell(name: str) -> str:
        assert name == "liger-kernel"
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    return tell


def test_torch_computes_unless_liger_is_asked_for() -> None:
    assert settings().train.kernels == "torch"
    assert settings("train.kernels=liger").train.kernels == "liger"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["launch.device=cpu"], "needs a GPU, and launch.device is 'cpu': write 'torch'"),
        (
            ["launch.sharding=fsdp2", "launch.num_processes=2"],
            "does not go with launch.sharding = 'fsdp2': write 'torch'",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_path(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings("train.kernels=liger", *overrides)
    assert said in dict(error.value.problems)["train.kernels"]


@pytest.mark.parametrize(
    ("version", "has_gpu", "model_type", "said", "fix"),
    [
        (None, True, "llama", "liger-kernel is not installed", "pip install 'halos-tui[liger]'"),
        (
            "0.7.2",
            True,
            "llama",
            "liger-kernel 0.7.2 is none of those that work",
            "halos-tui[liger]",
        ),
        ("0.9.0", True, "llama", "(0.8 to below 0.9)", "halos-tui[liger]"),
        ("0.8.5", False, "llama", "needs a GPU, and none is found", "train.kernels = 'torch'"),
        ("0.8.5", True, "gpt2", "and the policy is a gpt2", "train.kernels = 'torch'"),
    ],
)
def test_an_obstacle_is_told_with_its_fix(
    version: str | None, has_gpu: bool, model_type: str, said: str, fix: str
) -> None:
    told = find_liger_obstacle(has_gpu=has_gpu, model_type=model_type, version=installed(version))
    assert said in told[0]
    assert fix in told[1]
    assert "train.kernels = 'torch'" in told[1]


@pytest.mark.parametrize("model_type", ["llama", "qwen3", None])
def test_there_is_no_obstacle_where_it_can_be_used(model_type: str | None) -> None:
    told = find_liger_obstacle(has_gpu=True, model_type=model_type, version=installed("0.8.5"))
    assert told == ("", "")


def test_doctor_says_nothing_of_torchs_own_kernels_and_names_ligers_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert examine_kernels(settings()) == []
    monkeypatch.setattr(kernels.metadata, "version", installed(None))
    (found,) = examine_kernels(settings("train.kernels=liger"))
    assert (found.level, found.subject) == ("problem", "kernels")
    assert found.fix.startswith("pip install")


def test_a_policy_that_liger_does_not_know_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_policy(tmp_path / "policy")
    asked: dict[str, Any] = {}

    def obstacle(**known: Any) -> tuple[str, str]:
        asked.update(known)
        return "it cannot be", "write 'torch'"

    monkeypatch.setattr(train_kernels, "find_liger_obstacle", obstacle)
    check_kernels(settings(), str(tmp_path / "policy"))
    assert not asked
    with pytest.raises(UsageError, match="it cannot be; write 'torch'"):
        check_kernels(settings("train.kernels=liger"), str(tmp_path / "policy"))
    assert asked["model_type"] == "llama"


def test_a_change_of_the_kernels_is_one_of_last_digits() -> None:
    said = find_consequences(settings(), settings("train.kernels=liger"))
    assert said == ("results differ in their last digits: sums are taken in another order",)

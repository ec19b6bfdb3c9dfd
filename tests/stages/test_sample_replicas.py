"""Several engines as one, without vLLM: what is waited for, what a failure is called, the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.errors import EngineDiedError, OutOfMemoryError, StageError, UsageError
from halos_backend.stages.runtime import cause_of
from halos_backend.stages.sample import replicated_engine
from halos_backend.stages.sample.choose_weights import Weights
from halos_backend.stages.sample.replicated_engine import ReplicatedEngine
from halos_backend.stages.sample.sampling import Ending, Sampling

from tests.support.command_line import SUPPORT
from tests.support.place import make_tokenizer

FAKE = SUPPORT / "sample_fake_replica.py"
Says = dict[str, list[dict[str, Any]]]
Load = Callable[..., ReplicatedEngine]

SETTINGS = RunSettings.model_validate(
    {
        "policy": {"path": "policy"},
        "prompts": {"path": "prompts.jsonl"},
        "label": {
            "judge": {"kind": "function", "function": "judge.py:f"},
            "feedback": {"kind": "pairwise"},
        },
        "train": {"loss": {"kind": "dpo"}},
    }
)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes an engine of replicas that do what they are told here."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    sampling = Sampling(Ending(make_tokenizer(), frozenset({2}), ()), 8, 1.0, 1.0)
    loaded: list[ReplicatedEngine] = []

    def make(*says: Says) -> ReplicatedEngine:
        environments = [{"FAKE_REPLICA": json.dumps(one)} for one in says]
        weights = Weights("policy")
        loaded.append(ReplicatedEngine({}, weights, sampling, SETTINGS, environments))
        return loaded[-1]

    yield make
    for engine in loaded:
        engine.close()


def test_parking_waits_until_every_replica_has_given_its_memory_back(
    load: Load, tmp_path: Path
) -> None:
    given_back = [tmp_path / name for name in ("first", "second")]
    engine = load(
        *({"Park": [{"do": "touch", "path": str(path)}, {"type": "Parked"}]} for path in given_back)
    )
    engine.park()
    assert all(path.exists() for path in given_back)


def test_what_replicas_still_say_of_the_round_before_is_passed_over(load: Load) -> None:
    late = {"type": "Stepped"}
    engine = load({"Begin": [late, {"type": "Ready"}], "Park": [late, late, {"type": "Parked"}]})
    engine.park()
    engine.begin(Weights("next"), engine.sampling, SETTINGS)
    engine.park()


@pytest.mark.parametrize(
    ("answer", "kind", "cause"),
    [
        ({"do": "exit"}, EngineDiedError, "crashed"),
        ({"type": "Failed", "reason": "0", "kind": "KeyError"}, EngineDiedError, "crashed"),
        ({"type": "Failed", "reason": "0", "kind": "EngineDeadError"}, EngineDiedError, "crashed"),
        ({"type": "Failed", "reason": "0", "kind": "EngineDiedError"}, EngineDiedError, "crashed"),
        ({"type": "Failed", "reason": "0", "kind": "StageError"}, StageError, "refused"),
        ({"type": "Failed", "reason": "0", "kind": "UsageError"}, UsageError, "refused"),
        (
            {"type": "Failed", "reason": "0", "kind": "OutOfMemoryError"},
            OutOfMemoryError,
            "out_of_memory",
        ),
    ],
)
def test_a_replica_that_ends_by_itself_is_told_from_one_that_refuses(
    load: Load, answer: dict[str, str], kind: type[Exception], cause: str
) -> None:
    engine = load({}, {"Park": [answer]})
    with pytest.raises(kind, match="vLLM engine 2 of 2") as error:
        engine.park()
    assert type(error.value) is kind
    assert cause_of(error.value) == cause


def test_a_replica_that_does_not_end_is_killed_with_its_children(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicated_engine, "CLOSE_TIMEOUT_S", 0.1)
    path = tmp_path / "child"
    engine = load({"Park": [{"do": "linger", "path": str(path)}, {"type": "Parked"}]})
    engine.park()
    child = psutil.Process(int(path.read_text()))
    engine.close()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

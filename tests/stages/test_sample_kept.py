"""What stays of an engine between rounds, and what is given back."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.interpreters.engine_choice import EngineChoice
from halos_backend.stages.runtime import open_attempt
from halos_backend.stages.sample import engine_cache as kept_module
from halos_backend.stages.sample.__main__ import SampleStage
from halos_backend.stages.sample.engine_cache import EngineCache
from halos_backend.store.job import SampleInputs

from tests.support.sample_fixtures import SamplePlace


class FakeEngine:
    """An engine that is part of a circle, as models are, and says when it is closed."""

    def __init__(self, said: list[str]) -> None:
        self._itself = self
        self._said = said

    def close(self) -> None:
        self._said.append("close")


def keep(place: SamplePlace, cache: EngineCache) -> None:
    attempt = open_attempt(place.attempt("attempt").path, stays=True)
    assert isinstance(attempt.job.inputs, SampleInputs)
    cache.get(EngineChoice("transformers", "5", "asked for"), attempt, attempt.job.inputs)


def test_a_parked_transformers_engine_leaves_nothing_on_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch holds is given back once the model is gone."""
    made: list[weakref.ref[FakeEngine]] = []
    was_gone: list[bool] = []

    def load(*arguments: Any) -> FakeEngine:
        engine = FakeEngine([])
        made.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(kept_module, "load_engine", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: was_gone.append(made[0]() is None))
    cache = EngineCache()
    keep(SamplePlace(tmp_path), cache)
    cache.park()
    assert was_gone == [True]


def test_a_stage_that_is_closed_ends_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(kept_module, "load_engine", lambda *arguments: FakeEngine(said))
    stage = SampleStage()
    stage.close()
    stage._cache = EngineCache()
    keep(SamplePlace(tmp_path), stage._cache)
    stage.close()
    stage.close()
    assert said == ["close"]

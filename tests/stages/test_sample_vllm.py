"""What is said where vLLM does not load or loses its way, without vLLM."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from halos_backend.errors import EngineDiedError, OutOfMemoryError, StageError
from halos_backend.stages.sample.choose_weights import Weights

from tests.support.sample_fake_vllm import ENDED, EngineDeadError, FakeVllm, fake_vllm

Fake = tuple[FakeVllm, ModuleType, ModuleType]
CUDA = (
    b"(EngineCore pid=7) ERROR [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. Tried\n"
)
CACHE = b"ERROR ValueError: No available memory for the cache blocks. Try increasing\n"
SHAPES = b"INFO 10 GiB memory is free\nERROR ValueError: heads of 7 cannot be divided\n"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    with fake_vllm() as made:
        yield made


def load(fake: Fake) -> Any:
    _, _, engine = fake
    return engine.VllmEngine({"model": "/policy"}, Weights("/policy", "/adapter", 8), None)


@pytest.mark.parametrize(
    ("logs", "reason"),
    [(CUDA, "CUDA out of memory"), (CACHE + CUDA, "No available memory for the cache blocks")],
)
def test_a_full_gpu_is_told_by_what_the_engine_logged(
    fake: Fake, capfd: pytest.CaptureFixture[str], logs: bytes, reason: str
) -> None:
    """The engine is a process of its own, whose exception does not come here."""
    fake[0].logs, fake[0].refuses = logs, ENDED
    with pytest.raises(OutOfMemoryError, match=reason) as error:
        load(fake)
    assert "change sample.vllm.gpu_memory_utilization" in str(error.value)
    assert "sample.vllm.tensor_parallel_size" in str(error.value)


def test_an_engine_that_ended_for_another_reason_names_the_log(
    fake: Fake, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line about memory of an engine before it is not this one's."""
    os.write(1, CUDA)
    fake[0].logs, fake[0].refuses = SHAPES, ENDED
    with pytest.raises(StageError) as error:
        load(fake)
    assert type(error.value) is StageError
    said = str(error.value)
    assert said.startswith("vLLM cannot load the policy at /policy: Engine core initialization")
    assert "what it said before is in this attempt's stdout.log" in said
    assert "Where memory is too little, change sample.vllm.gpu_memory_utilization" in said


def test_an_adapter_that_another_process_refuses_is_a_refusal(fake: Fake) -> None:
    """What goes wrong there arrives as a bare Exception."""
    fake[0].refuses_adapter = Exception("Call to add_lora method failed: rank 9")
    with pytest.raises(StageError, match=r"does not take the adapters in /adapter: .*rank 9"):
        load(fake)
    assert fake[0].num_shutdowns == 1


def test_an_engine_that_ends_over_an_adapter_has_not_refused_it(fake: Fake) -> None:
    fake[0].refuses_adapter = EngineDeadError()
    with pytest.raises(EngineDeadError):
        load(fake)
    assert fake[0].num_shutdowns == 1


def test_an_engine_that_keeps_what_it_cached_has_lost_its_way(fake: Fake) -> None:
    fake[0].forgets = False
    with pytest.raises(EngineDiedError, match="did not give up what it had cached"):
        load(fake)

"""Whether the programs of all stages fit beside each other: the arithmetic, and who decides when.

Expected bytes are added up by hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from halos_backend.config.schema import RunSettings
from halos_backend.config.warmth import (
    ModelSizes,
    Program,
    bytes_apart,
    bytes_together,
    fits_together,
    foreseen_programs,
    gpu_shortage,
)
from halos_backend.events import STAGES, RunEvent, Stage, WorkersChosen
from halos_backend.findings import GIB, MIB
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, apply, fold
from halos_backend.supervisor.warm_choice import WarmChoice

from tests.support.journals import (
    created,
    finished,
    round_finished,
    round_started,
    settings,
    started,
)

PROGRAMS: dict[Stage, Program] = {
    "sample": Program(peak_bytes=5, kept_bytes=1),
    "label": Program(peak_bytes=3, kept_bytes=2),
    "train": Program(peak_bytes=10, kept_bytes=4),
}
BILLION = 1_000_000_000


def test_the_stages_work_in_turn_and_the_others_keep_something_meanwhile() -> None:
    assert bytes_together(PROGRAMS, has_overlap=False) == 1 + 2 + 10
    assert bytes_apart(PROGRAMS) == 10


def test_with_overlap_sampler_and_judge_work_at_once() -> None:
    sampler = {**PROGRAMS, "sample": Program(peak_bytes=9, kept_bytes=1)}
    assert bytes_together(sampler, has_overlap=True) == 9 + 3 + 4


def test_what_is_measured_may_fill_more_of_the_memory_than_what_is_foreseen() -> None:
    for room, measured, is_warm in ((16, False, False), (17, False, True), (14, True, True)):
        found = fits_together(PROGRAMS, room, has_overlap=False, is_measured=measured)
        assert found.is_warm == is_warm, room


def test_a_policy_of_a_billion_parameters_in_bf16_with_adamw_in_fp32() -> None:
    """Kept: fp32 weights 4, two moments 8, the reference 4; at work gradients 4 more."""
    sizes = ModelSizes(BILLION, 2 * BILLION, judge_parameters=BILLION // 2)
    made = judged_by_a_model()
    found = foreseen_programs(made, sizes)
    base = 350 * MIB
    assert found["sample"] == Program(base + 2 * BILLION, base), "loaded anew for each round"
    assert found["label"] == Program(base + 2 * BILLION, base + 2 * BILLION)
    assert found["train"] == Program(base + 20 * BILLION, base + 16 * BILLION)


def test_ranks_and_functions_keep_little() -> None:
    made = settings(launch={"num_processes": 2})
    found = foreseen_programs(made, ModelSizes(BILLION, 2 * BILLION))
    assert found["label"].kept_bytes == 100 * MIB
    assert found["train"].kept_bytes == 0


def test_vllm_leaves_room_on_a_gpu_for_what_the_others_keep() -> None:
    """0.92 of 8 GiB and twice half a GiB are more than 8; of 80 GiB they are not."""
    made = settings()
    assert "vLLM takes 7.4 GiB" in gpu_shortage(made, sampler="vllm", gpu_bytes=8 * GIB)
    assert not gpu_shortage(made, sampler="vllm", gpu_bytes=80 * GIB)
    assert not gpu_shortage(made, sampler="transformers", gpu_bytes=8 * GIB)
    assert not gpu_shortage(made, sampler="vllm", gpu_bytes=None)


def test_true_and_false_hold_and_auto_waits_for_the_choice() -> None:
    state = fold([created(settings())])
    assert state.keeps_workers(True)
    assert not state.keeps_workers(False)
    assert not state.keeps_workers("auto")
    chosen = apply(state, WorkersChosen(t=1.0, is_warm=True, reason="there is room"))
    assert chosen.keeps_workers("auto")
    assert not msgspec.structs.replace(chosen, is_crowded=True).keeps_workers("auto")
    assert not msgspec.structs.replace(chosen, is_crowded=True).keeps_workers(True)


class Chosen:
    """A run that decides, where so much memory is available."""

    def __init__(self, path: Path, available: int, **prepared: Any) -> None:
        path.mkdir()
        self.dir = RunDir(path)
        sizes = {"num_parameters": 1000, "checkpoint_bytes": 4000, "judge_parameters": 0}
        sizes |= {"sampler": "transformers"}
        self.dir.prepared.write_bytes(msgspec.json.encode(sizes | prepared))
        self.settings: RunSettings = settings()
        self.state: RunState = fold([created(self.settings)])
        self.available: int | None = available
        self.kept: dict[Stage, set[int]] = {}
        self.choice = WarmChoice(
            self.dir,
            self._record,
            parked_pids=lambda: self.kept,
            latest=lambda: None,
            available=lambda: self.available,
        )

    def make(self, round: int) -> bool:
        return self.choice.make(round, self.state, self.settings)

    def finish_round(self, round: int, **peaks: int) -> None:
        self._record(round_started(round, self.settings))
        for stage in STAGES:
            self._record(started(round, stage))
            self._record(finished(round, stage, host_own_peak_memory_bytes=peaks[stage]))
        self._record(round_finished(round))

    def _record(self, event: RunEvent) -> None:
        self.state = apply(self.state, event)

    @property
    def is_warm(self) -> bool:
        return self.state.keeps_workers(self.settings.launch.warm_workers)


@pytest.fixture(autouse=True)
def _own_promises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HALOS_RUNTIME_DIR", str(tmp_path / "runtime"))


def test_auto_is_warm_where_the_models_fit_and_says_why_not_where_they_do_not(
    tmp_path: Path,
) -> None:
    """The three programs take 350, 350 and 100 MiB, and next to nothing for the models."""
    roomy, tight = Chosen(tmp_path / "a", 2 * GIB), Chosen(tmp_path / "b", 900 * MIB)
    for run in (roomy, tight):
        run.make(1)
        run.choice.release()
    assert roomy.is_warm
    assert not tight.is_warm
    assert tight.state.workers is not None
    assert tight.state.workers.reason == (
        "the programs of all stages take up to 800 MiB, 900 MiB are there"
    )


def test_runs_that_start_at_once_do_not_count_on_the_same_memory(tmp_path: Path) -> None:
    """800 MiB each, in 4 GiB of which a fifth stays free: four of ten are warm."""
    runs = [Chosen(tmp_path / str(number), 4 * GIB) for number in range(10)]
    for run in runs:
        run.make(1)
    assert sum(run.is_warm for run in runs) == 4
    for run in runs:
        run.choice.release()
    late = Chosen(tmp_path / "late", 4 * GIB)
    late.make(1)
    assert late.is_warm, "what was promised has been taken, or will not be"


def test_a_promise_of_a_supervisor_that_is_gone_does_not_count(tmp_path: Path) -> None:
    gone = Chosen(tmp_path / "gone", 1100 * MIB)
    gone.make(1)
    (path,) = (tmp_path / "runtime" / "memory").glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"pid":', b'"pid":9'))
    for number in range(2):
        late = Chosen(tmp_path / f"late {number}", 1100 * MIB)
        late.make(1)
        assert late.is_warm == (number == 0)


def test_memory_that_the_stages_took_turns_it_off_until_the_owner_does_something(
    tmp_path: Path,
) -> None:
    run = Chosen(tmp_path / "run", 2 * GIB)
    assert not run.make(1)
    run.finish_round(1, sample=GIB, label=GIB, train=5 * GIB)
    assert run.make(2), "programs are to end"
    assert not run.is_warm
    run.available = 64 * GIB
    run.finish_round(2, sample=GIB, label=GIB, train=5 * GIB)
    run.make(3)
    assert not run.is_warm, "it does not change its mind each round"


def test_what_the_programs_hold_now_counts_as_room(tmp_path: Path) -> None:
    """32 MiB in all, and 8 are free; this process, for a trainer, holds more than the rest."""
    run = Chosen(tmp_path / "run", 2 * GIB)
    run.make(1)
    run.finish_round(1, sample=4 * MIB, label=4 * MIB, train=24 * MIB)
    run.available = 8 * MIB
    run.kept = {"train": {os.getpid()}}
    assert not run.make(2)
    assert run.is_warm


def test_a_run_of_an_earlier_version_decides_after_a_round(tmp_path: Path) -> None:
    run = Chosen(tmp_path / "run", 64 * GIB, judge_parameters=None)
    run.make(1)
    assert not run.is_warm
    run.finish_round(1, sample=GIB, label=GIB, train=GIB)
    run.make(2)
    assert run.is_warm


def judged_by_a_model() -> RunSettings:
    table = settings().model_dump(mode="json")
    table["label"]["judge"] = {"kind": "reward_model", "path": "/models/judge"}
    return RunSettings.model_validate(table)

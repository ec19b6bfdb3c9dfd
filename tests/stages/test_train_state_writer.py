"""States in mid-round are written while training goes on, and lose nothing by it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from halos_backend.events import AttemptFailed, MetricsLogged
from halos_backend.stages import runtime
from halos_backend.stages.train import mid_round_state
from halos_backend.stages.train.__main__ import execute
from halos_backend.stages.train.mid_round_state import (
    PartialHeader,
    StateWriter,
    find_partial_state,
    has_room,
    write_partial_state,
)
from halos_backend.stages.train.train_step import Trainer
from halos_backend.store.job import read_job
from halos_backend.store.run_dir import AttemptDir
from safetensors.torch import load_file
from torch import Tensor

from tests.support.forks import forking_python, kill_fork
from tests.support.train_fixtures import (
    command,
    environment,
    events,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    train,
    weights_of,
)

NUM_STEPS = 26
SAVED_AT = 5
PATIENCE_S = 60
DPO: dict[str, Any] = {
    "rows": pairs(8), "loss": {"kind": "dpo"}, "batch_size": 8, "num_epochs": NUM_STEPS,
    "lr": 1e-4, "save_every_steps": SAVED_AT,
}  # fmt: skip
SLOW_DISK = """
import time
from halos_backend import atomic

def slowly(flush):
    def flush_slowly(path):
        if "partial_state" in str(path):
            time.sleep(0.2)
        flush(path)
    return flush_slowly

atomic.fsync_file, atomic.fsync_dir = slowly(atomic.fsync_file), slowly(atomic.fsync_dir)
"""
Tensors = Mapping[str, Mapping[str, Tensor]]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def uninterrupted(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The final weights of `DPO`, trained without saving in between."""
    attempt = make_attempt(
        tmp_path_factory.mktemp("whole") / "attempt_1", model=policy, reference=policy,
        **{**DPO, "save_every_steps": NUM_STEPS},
    )  # fmt: skip
    train(attempt)
    return weights_of(attempt.checkpoint)


def state_of(value: float) -> dict[str, dict[str, Tensor]]:
    moments = {"exp_avg.w": torch.full((3,), 10 * value), "step.w": torch.tensor(value)}
    return {"weights": {"w": torch.full((2,), value)}, "optimizer": moments, "reference": {}}


class Gate:
    """In place of the function that writes: each write waits until it is let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[int] = []
        self.written: list[int] = []

    def __call__(self, directory: AttemptDir, header: PartialHeader, tensors: Tensors) -> None:
        self.begun.append(header.step)
        assert self.open.wait(PATIENCE_S)
        write_partial_state(directory, header, tensors)
        self.written.append(header.step)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(mid_round_state, "write_partial_state", gate)
    return gate


def test_what_is_written_are_the_values_of_the_moment(tmp_path: Path, gate: Gate) -> None:
    directory, tensors = AttemptDir(tmp_path), state_of(1.0)
    history = [{"loss": 0.5}]
    with StateWriter(directory) as writer:
        writer.write(PartialHeader(1, "digest", history), tensors)
        assert not gate.written
        for held in tensors.values():
            for tensor in held.values():
                tensor.zero_()
        history.append({"loss": 0.25})
        gate.open.set()
    state = directory.partial_state / "step_000001"
    assert load_file(state / "weights.safetensors")["w"].tolist() == [1.0, 1.0]
    moments = load_file(state / "optimizer.safetensors")
    assert moments["exp_avg.w"].tolist() == [10.0, 10.0, 10.0]
    assert moments["step.w"].item() == 1.0
    assert b"0.25" not in (state / "state.json").read_bytes()


def test_a_state_waits_for_the_one_before_it(tmp_path: Path, gate: Gate) -> None:
    directory = AttemptDir(tmp_path)
    with StateWriter(directory) as writer:
        writer.write(PartialHeader(1, "digest", []), state_of(1.0))
        second = threading.Thread(
            target=writer.write, args=(PartialHeader(2, "digest", []), state_of(2.0))
        )
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert gate.begun == [1]
        gate.open.set()
        second.join(PATIENCE_S)
    assert gate.written == [1, 2]
    (state,) = directory.partial_state.iterdir()
    assert load_file(state / "weights.safetensors")["w"].tolist() == [2.0, 2.0]


def test_without_room_for_copies_it_writes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = psutil.virtual_memory().available
    weight = torch.empty(1, device="meta").expand(available)
    assert not has_room({"weights": {"w": weight}})
    assert has_room(state_of(1.0))
    threads: list[threading.Thread] = []

    def write(directory: AttemptDir, header: PartialHeader, tensors: Tensors) -> None:
        threads.append(threading.current_thread())

    monkeypatch.setattr(mid_round_state, "write_partial_state", write)
    monkeypatch.setattr(mid_round_state, "has_room", lambda tensors: False)
    with StateWriter(AttemptDir(tmp_path)) as writer:
        writer.write(PartialHeader(1, "digest", []), state_of(1.0))
        assert threads == [threading.current_thread()]


def test_training_goes_on_while_a_slow_disk_takes_a_state(
    policy: Path, tmp_path: Path, uninterrupted: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write ends only after more steps, and its state leads to the same weights."""
    passed = threading.Condition()
    step, done, running, most, kept = Trainer.step, 0, 0, 0, tmp_path / "kept"

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal done
        metrics = step(*args, **named)
        with passed:
            done += 1
            passed.notify()
        return metrics

    def slowly(directory: AttemptDir, header: PartialHeader, tensors: Tensors) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        later = min(header.step + 2, NUM_STEPS)
        with passed:
            assert passed.wait_for(lambda: done >= later, PATIENCE_S)
        write_partial_state(directory, header, tensors)
        shutil.copytree(directory.partial_state, kept / f"{header.step}" / "partial_state")
        running -= 1

    settings: dict[str, Any] = {"model": policy, "reference": policy, **DPO}
    first = make_attempt(tmp_path / "slow" / "attempt_1", **settings)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", counted)
        patched.setattr(mid_round_state, "write_partial_state", slowly)
        train(first)
    assert most == 1
    assert sorted(int(path.name) for path in kept.iterdir()) == [5, 10, 15, 20, 25]
    assert [path.name for path in first.partial_state.iterdir()] == ["step_000025"]
    shutil.rmtree(first.partial_state)
    assert_same(weights_of(first.checkpoint), uninterrupted)
    for number, saved in enumerate((5, 20), start=2):
        shutil.copytree(kept / f"{saved}" / "partial_state", first.partial_state)
        later = make_attempt(
            first.path.with_name(f"attempt_{number}"), earlier_attempts=(str(first.path),),
            **settings,
        )  # fmt: skip
        train(later)
        assert min(step for step in metrics(later) if step > 0) == saved + 1
        assert_same(weights_of(later.checkpoint), uninterrupted)
        shutil.rmtree(first.partial_state)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("failing", [5, 25], ids=["in mid-round", "the last"])
def test_a_full_disk_fails_the_round_as_ever(
    failing: int, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(directory: AttemptDir, header: PartialHeader, tensors: Tensors) -> None:
        if header.step == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the/state")

    monkeypatch.setattr(mid_round_state, "write_partial_state", write)
    attempt = make_attempt(tmp_path / "attempt_1", model=policy, reference=policy, **DPO)
    assert runtime._execute(execute, runtime.open_attempt(attempt.path)) == 1
    (failure,) = [event for event in events(attempt) if isinstance(event, AttemptFailed)]
    assert failure.cause == "no_space"
    assert failure.reason.startswith("no space left on the disk of the/state; free some")
    assert not attempt.done.exists()
    assert not attempt.checkpoint.exists()


def test_a_real_limit_of_the_disk_stops_a_real_process(policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(
        tmp_path / "attempt_1", model=policy, reference=policy, **{**DPO, "save_every_steps": 2}
    )
    ended = subprocess.run(
        ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", sys.executable, "-m",
         "halos_backend.stages.train", "--attempt-dir", str(attempt.path)],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr[-3000:]
    (failure,) = [event for event in events(attempt) if isinstance(event, AttemptFailed)]
    assert failure.cause == "no_space"
    assert f"{attempt.partial_state}/.step_0000" in failure.reason
    assert "is too large for its disk" in failure.reason
    assert len([e for e in events(attempt) if isinstance(e, MetricsLogged)]) < NUM_STEPS


@pytest.mark.parametrize(
    ("moment", "least"),
    [
        (".step_000010.tmp/weights.safetensors", 5),
        (".step_000010.tmp/state.json", 5),
        ("step_000010/state.json", 10),
    ],
    ids=["writing", "flushing", "replacing"],
)
def test_a_kill_while_a_state_is_written_leaves_a_whole_one(
    moment: str,
    least: int,
    policy: Path,
    tmp_path: Path,
    uninterrupted: dict[str, Tensor],
) -> None:
    settings: dict[str, Any] = {"model": policy, "reference": policy, **DPO}
    first = make_attempt(tmp_path / "attempt_1", **settings)
    change = tmp_path / "slow_disk.py"
    change.write_text(SLOW_DISK)
    process = subprocess.Popen(
        command(first, python=forking_python()), env=environment(change), stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (first.partial_state / moment).exists():
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        kill_fork(process)
    assert not first.done.exists()

    warnings: list[str] = []
    state = find_partial_state([first], read_job(first.job), warn=warnings.append)
    assert warnings == []
    assert state is not None
    assert least <= state.step < NUM_STEPS
    second = make_attempt(tmp_path / "attempt_2", earlier_attempts=(str(first.path),), **settings)
    train(second)
    assert_same(weights_of(second.checkpoint), uninterrupted)

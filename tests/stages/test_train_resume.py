"""A round that was killed goes on where it was, bit for bit."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from halos_backend.events import PhaseChanged
from halos_backend.stages.train.mid_round_state import (
    PartialHeader,
    find_partial_state,
    write_partial_state,
)
from halos_backend.store.job import read_job
from halos_backend.store.run_dir import AttemptDir
from safetensors.torch import load_file

from tests.support.forks import forking_python, kill_fork
from tests.support.train_fixtures import (
    command,
    environment,
    events,
    groups,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    summary_of,
    train,
    unpaired,
    warnings_of,
    weights_of,
)

NUM_STEPS = 150
SAVED_AT = 10
POLL_S = 0.002


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


CASES: dict[str, dict[str, Any]] = {
    "dpo": {"rows": pairs(8), "loss": {"kind": "dpo"}},
    "humanline and adapters with dropout": {
        "rows": unpaired(8),
        "loss": {"kind": "kto", "humanline": {"sync_every": 7}},
        "lora": {"r": 2, "dropout": 0.2},
    },
    "grpo": {"rows": groups(2), "loss": {"kind": "grpo"}},
}


def killed_in_mid_round(attempt: AttemptDir) -> None:
    """Run the attempt as a real process and SIGKILL it once it has saved its state twice."""
    process = subprocess.Popen(
        command(attempt, python=forking_python()), env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not any(attempt.partial_state.glob(f"step_{2 * SAVED_AT:06d}")):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
    finally:
        kill_fork(process)
    assert not attempt.done.exists()


@pytest.mark.parametrize("case", list(CASES))
def test_a_killed_round_ends_with_the_weights_of_an_uninterrupted_one(
    case: str, policy: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "model": policy, "reference": policy, "batch_size": 8, "num_epochs": NUM_STEPS,
        "lr": 1e-4, "save_every_steps": SAVED_AT, **CASES[case],
    }  # fmt: skip
    whole = make_attempt(tmp_path / "whole" / "attempt_1", **settings)
    train(whole)

    first = make_attempt(tmp_path / "killed" / "attempt_1", **settings)
    killed_in_mid_round(first)
    second = make_attempt(
        tmp_path / "killed" / "attempt_2", earlier_attempts=(str(first.path),), **settings
    )
    summary = train(second)

    resumed_from = first_step(second) - 1
    assert 2 * SAVED_AT <= resumed_from < NUM_STEPS
    assert resumed_from % SAVED_AT == 0
    phases = [event.phase for event in events(second) if isinstance(event, PhaseChanged)]
    assert f"going on from step {resumed_from} of an earlier attempt" in phases
    expected, found = weights_of(whole.checkpoint), weights_of(second.checkpoint)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name in ("num_steps", "num_examples", "loss_first", "loss_last", "implicit_reward_margin"):
        assert summary[name] == summary_of(whole)[name]
    kept = [path.name for path in second.partial_state.iterdir()]
    assert kept == [f"step_{NUM_STEPS - SAVED_AT:06d}"]  # until the result is proven


@pytest.fixture(scope="module")
def killed(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> AttemptDir:
    """An attempt of `DPO` that was killed after it had saved its state."""
    attempt = make_attempt(
        tmp_path_factory.mktemp("killed") / "attempt_1", model=policy, reference=policy, **DPO
    )
    killed_in_mid_round(attempt)
    return attempt


DPO: dict[str, Any] = {
    "rows": pairs(8), "loss": {"kind": "dpo"}, "batch_size": 8, "num_epochs": NUM_STEPS,
    "lr": 1e-4, "save_every_steps": SAVED_AT,
}  # fmt: skip


def newest_state(attempt: AttemptDir) -> Path:
    """A kill may land before the state before it is removed."""
    return max(attempt.partial_state.glob("step_*"))


def first_step(attempt: AttemptDir) -> int:
    return min(step for step in metrics(attempt) if step > 0)


def test_state_of_other_settings_is_not_taken_over(policy: Path, killed: AttemptDir) -> None:
    second = make_attempt(
        killed.path.with_name("attempt_2"), model=policy, reference=policy,
        earlier_attempts=(str(killed.path),), **{**DPO, "lr": 2e-4},
    )  # fmt: skip
    train(second)
    assert first_step(second) == 1


def test_a_damaged_state_is_passed_over_with_a_warning(policy: Path, killed: AttemptDir) -> None:
    broken = AttemptDir(killed.path.with_name("attempt_3"))
    shutil.copytree(killed.path, broken.path)
    state = newest_state(broken)
    weights = state / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    fourth = make_attempt(
        killed.path.with_name("attempt_4"), model=policy, reference=policy,
        earlier_attempts=(str(killed.path), str(broken.path)), **DPO,
    )  # fmt: skip
    (state / "state.json").write_bytes(_later(state / "state.json"))
    train(fourth)
    assert first_step(fourth) > SAVED_AT  # it went on from the older, whole one
    (warning,) = warnings_of(fourth)
    assert str(weights) in warning
    assert "passed over" in warning


def _later(header: Path) -> bytes:
    """The header of a state that would be preferred."""
    fields = msgspec.json.decode(header.read_bytes())
    return msgspec.json.encode({**fields, "step": fields["step"] + 1})


def test_a_newer_state_replaces_the_older_one(tmp_path: Path) -> None:
    directory = AttemptDir(tmp_path)
    for step in (2, 4):
        tensors = {
            "weights": {"w": torch.full((2,), float(step))},
            "optimizer": {},
            "reference": {},
        }
        write_partial_state(directory, PartialHeader(step, "digest", []), tensors)
    (state,) = directory.partial_state.iterdir()
    assert state.name == "step_000004"
    assert load_file(state / "weights.safetensors")["w"].tolist() == [4.0, 4.0]


def test_a_half_written_state_counts_for_nothing(tmp_path: Path, killed: AttemptDir) -> None:
    directory = AttemptDir(tmp_path)
    whole = newest_state(killed)
    shutil.copytree(whole, directory.partial_state / f".{whole.name}.tmp")
    warnings: list[str] = []
    job = read_job(killed.job)
    assert find_partial_state([directory], job, warn=warnings.append) is None
    assert find_partial_state([killed], job, warn=warnings.append) is not None
    assert warnings == []

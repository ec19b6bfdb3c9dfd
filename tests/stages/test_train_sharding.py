"""Two real processes that hold half of everything each (fully_shard, gloo) against one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.records import Completion, PreferencePair
from halos_backend.store.run_dir import AttemptDir
from safetensors.torch import load_file

from tests.support.train_fixtures import (
    groups,
    make_attempt,
    make_gemma2,
    make_gemma3,
    make_policy,
    metrics,
    pairs,
    run_in_process,
    summary_of,
    train,
    train_in_process,
    unpaired,
    warnings_of,
    weights_of,
    write_completions,
)

# 19 examples in batches of 4: five steps an epoch, the last of 3 examples, or of 1 where it is 17
CASES: dict[str, dict[str, Any]] = {
    "dpo": {"rows": pairs(17), "batch_size": 4, "num_epochs": 2, "loss": {"kind": "dpo"}},
    "kto": {"rows": unpaired(19), "batch_size": 4, "num_epochs": 2, "loss": {"kind": "kto"}},
    "grpo": {
        "rows": groups(5, size=4), "batch_size": 8, "num_epochs": 3, "loss": {"kind": "grpo"},
    },
}  # fmt: skip
UNSTABLE = {"tokens_per_s", "implicit_reward_accuracy", "clip_frac"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("tied"), seed=2, tie_word_embeddings=True)


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("initial"), seed=1)


def train_sharded(path: Path, **settings: Any) -> AttemptDir:
    attempt = make_attempt(path, num_processes=2, sharding="fsdp2", **settings)
    train_in_process(attempt, num_processes=2)
    return attempt


def check_equal(sharded: AttemptDir, alone: AttemptDir) -> None:
    """Metrics of each step, the checkpoint as other programs read it, and AdamW's moments."""
    expected = metrics(alone)
    assert metrics(sharded).keys() == expected.keys()
    for step, values in metrics(sharded).items():
        assert values.keys() == expected[step].keys()
        for name in values.keys() - UNSTABLE:
            assert values[name] == pytest.approx(expected[step][name], abs=2e-6, rel=2e-5), name
    weights, theirs = weights_of(alone.checkpoint), weights_of(sharded.checkpoint)
    assert theirs.keys() == weights.keys()
    for name, weight in weights.items():
        assert theirs[name].dtype == weight.dtype
        torch.testing.assert_close(theirs[name], weight, atol=1e-6, rtol=1e-6)
    moments = load_file(alone.trainer_state / "optimizer.safetensors")
    kept = load_file(sharded.trainer_state / "optimizer.safetensors")
    assert kept.keys() == moments.keys()
    for name, moment in moments.items():
        torch.testing.assert_close(kept[name], moment, atol=1e-6, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_gemma2, make_gemma3])
def test_models_of_eager_attention_or_with_other_senses_are_gathered_too(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    policy = make(tmp_path / "policy")
    settings: dict[str, Any] = {
        "rows": pairs(6), "model": policy, "reference": policy, "loss": {"kind": "dpo"},
        "batch_size": 2, "lr": 1e-5, "weight_decay": 0.1,
    }  # fmt: skip
    alone = make_attempt(tmp_path / "one", **settings)
    train(alone)
    check_equal(train_sharded(tmp_path / "two", **settings), alone)


@pytest.mark.parametrize("case", list(CASES))
def test_two_sharded_processes_equal_one(
    case: str, policy: Path, initial: Path, tmp_path: Path
) -> None:
    completions = write_completions(tmp_path / "completions.jsonl", groups(3))
    settings: dict[str, Any] = {
        "model": policy, "reference": initial, "initial": initial, "completions": completions,
        "lr": 1e-5, "microbatch_tokens": 40, "max_grad_norm": 0.05, **CASES[case],
    }  # fmt: skip
    alone = make_attempt(tmp_path / "one", **settings)
    train(alone)
    check_equal(train_sharded(tmp_path / "two", **settings), alone)
    assert all(values["grad_norm"] > 0.05 for step, values in metrics(alone).items() if step)


def test_the_gathered_checkpoint_has_the_files_of_one_process(tied: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "rows": pairs(6), "model": tied, "reference": tied, "loss": {"kind": "dpo"},
        "batch_size": 2, "lr": 1e-5, "gradient_checkpointing": True,
    }  # fmt: skip
    alone = make_attempt(tmp_path / "one", **settings)
    train(alone)
    sharded = train_sharded(tmp_path / "two", **settings)
    check_equal(sharded, alone)
    names = {path.name for path in alone.checkpoint.iterdir()}
    assert {path.name for path in sharded.checkpoint.iterdir()} == names
    for name in names - {"model.safetensors"}:
        ours, theirs = (a.checkpoint / name for a in (alone, sharded))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_a_low_dtype_keeps_its_master_weights_and_the_next_round_goes_on(tmp_path: Path) -> None:
    policy = make_policy(tmp_path / "bf16", dtype=torch.bfloat16)
    settings: dict[str, Any] = {
        "rows": pairs(6), "initial": policy, "loss": {"kind": "dpo"}, "batch_size": 2, "lr": 1e-5,
    }  # fmt: skip
    attempts = {}
    for sharding in ("none", "fsdp2"):
        state, model = None, policy
        for number in (1, 2):
            attempt = make_attempt(
                tmp_path / f"{sharding}_{number}",
                model=model,
                reference=policy,
                trainer_state=state,
                round=number,
                num_processes=2,
                sharding=sharding,
                completions=write_completions(tmp_path / "completions.jsonl", groups(3)),
                **settings,
            )
            train_in_process(attempt, num_processes=2)
            state, model = attempt.trainer_state, attempt.checkpoint
        attempts[sharding] = attempt
    assert summary_of(attempts["fsdp2"])["optimizer"] == "kept"
    masters = [load_file(a.trainer_state / "master.safetensors") for a in attempts.values()]
    assert masters[0].keys() == masters[1].keys()
    for name, weight in masters[0].items():
        torch.testing.assert_close(masters[1][name], weight, atol=1e-6, rtol=1e-6)
    assert weights_of(attempts["fsdp2"].checkpoint)["model.norm.weight"].dtype == torch.bfloat16


def test_ranks_without_examples_or_tokens_take_part(policy: Path, tmp_path: Path) -> None:
    empty = Completion("e", "", (), "length", 0.0)
    one, two = pairs(2)
    silent = PreferencePair("s", two.prompt, two.prompt_token_ids, empty, empty, 1.0, 0.0)
    settings: dict[str, Any] = {
        "rows": [one, silent], "model": policy, "reference": policy, "loss": {"kind": "dpo"},
        "batch_size": 1, "num_epochs": 2, "lr": 1e-5,
    }  # fmt: skip
    alone = make_attempt(tmp_path / "one", **settings)
    train(alone)
    check_equal(train_sharded(tmp_path / "two", **settings), alone)


def test_a_later_attempt_goes_on_from_the_parts_that_an_earlier_one_left(
    policy: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "rows": pairs(12), "model": policy, "reference": policy, "loss": {"kind": "dpo"},
        "batch_size": 2, "lr": 1e-4, "save_every_steps": 2,
    }  # fmt: skip
    whole = train_sharded(tmp_path / "whole", **settings)
    assert [path.name for path in whole.partial_state.iterdir()] == ["step_000004"]
    half = make_attempt(tmp_path / "half", num_processes=2, sharding="fsdp2", **settings)
    cut_after_step_5(half)
    assert [path.name for path in half.partial_state.iterdir()] == ["step_000004"]
    sizes = [p.stat().st_size for p in (half.partial_state / "step_000004").glob("*.distcp")]
    assert len(sizes) == 2
    assert max(sizes) < 1.5 * min(sizes)

    torn = AttemptDir(tmp_path / "torn")
    shutil.copytree(half.partial_state, torn.partial_state)
    (torn.partial_state / "step_000004").rename(torn.partial_state / "step_000005")
    header = torn.partial_state / "step_000005" / "state.json"
    header.write_text(header.read_text().replace('"step":4', '"step":5'))
    for part in (torn.partial_state / "step_000005").glob("__1_*"):
        part.write_bytes(b"")

    resumed = train_sharded(
        tmp_path / "resumed",
        earlier_attempts=(str(half.path), str(torn.path)),
        **settings,
    )
    assert sorted(metrics(resumed)) == [0, 5, 6]
    assert any("step_000005" in text for text in warnings_of(resumed))
    weights, theirs = weights_of(whole.checkpoint), weights_of(resumed.checkpoint)
    for name, weight in weights.items():
        assert torch.equal(theirs[name], weight), name


def cut_after_step_5(attempt: AttemptDir) -> None:
    """The attempt fails in step 6, on both ranks."""
    change = attempt.path / "failing.py"
    change.write_text(
        "from halos_backend.stages.train.train_step import Trainer\n"
        "own = Trainer.step\n"
        "def step(self, number, *args, **settings):\n"
        "    if number == 6:\n"
        "        raise SystemExit('cut')\n"
        "    return own(self, number, *args, **settings)\n"
        "Trainer.step = step\n"
    )
    ended = run_in_process(attempt, num_processes=2, change=change)
    assert ended.returncode != 0

"""The label stage with real vLLM on the CPU, against plain transformers."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from halos_backend.events import PhaseChanged
from halos_backend.records import Group
from halos_backend.stages.label.packed import plan_waves
from halos_backend.store.manifest import read_done
from halos_backend.store.run_dir import AttemptDir
from transformers import AutoModelForSequenceClassification

from tests.support.foreign import (
    GIVES_PROBABILITIES,
    changed_plain_python,
    changed_python,
    label,
    start,
)
from tests.support.label_fixtures import (
    VOCABULARY,
    completion,
    done_summary,
    events,
    expected_ids,
    failures,
    group,
    make_attempt,
    ragged_groups,
    reasons_of,
    reward_model_judge,
    rewards_of,
    save_classifier,
    warnings,
)
from tests.support.waiting import wait_for

pytestmark = pytest.mark.vllm

LOADS_NOTHING = """
from vllm.model_executor.model_loader import base_loader
def load_model(*arguments, **given):
    raise KeyError("layers.0.odd.weight")
base_loader.BaseModelLoader.load_model = load_model
"""

HAS_LITTLE_ROOM = """
from halos_backend.stages.label import vllm_parity
vllm_parity.LEAST_ROOM = 16
"""

SCORES_NOTHING = """
from halos_backend.stages.label import vllm_judge
def end(self, sequences):
    raise RuntimeError("the engine ended")
vllm_judge.VllmJudge._forward = end
"""

IS_NOT_IMPORTED = """
import sys
sys.modules["vllm"] = None
"""


def plain_rewards(path: Path, groups: Sequence[Group], *, logit: int = 0) -> list[float]:
    """By plain transformers on token ids put together by hand, one conversation at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        return [
            float(model(input_ids=torch.tensor([expected_ids(row, entry)])).logits[0, logit])
            for row in groups
            for entry in row.completions
        ]


def vllm_judge(path: Path, **settings: object) -> dict[str, object]:
    return reward_model_judge(path, engine="vllm", **settings)


@pytest.fixture(scope="module")
def one_logit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "one_logit", hidden_size=64)


def test_rewards_are_the_raw_logits_of_transformers(
    tmp_path: Path, one_logit: Path, vllm_python: str
) -> None:
    groups = ragged_groups(12, 4)
    path = make_attempt(tmp_path / "attempt", groups, vllm_judge(one_logit, batch_tokens=200))
    label(path, vllm_python)
    expected = plain_rewards(one_logit, groups)
    assert rewards_of(path) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1
    assert done_summary(path)["engine"].startswith("vllm 0.")
    assert warnings(path) == []


def test_of_two_logits_the_second_is_the_reward(tmp_path: Path, vllm_python: str) -> None:
    model = save_classifier(tmp_path / "model", num_labels=2, hidden_size=64)
    groups = ragged_groups(6, 4)
    path = make_attempt(tmp_path / "attempt", groups, vllm_judge(model))
    label(path, vllm_python)
    assert rewards_of(path) == pytest.approx(plain_rewards(model, groups, logit=1), abs=1e-4)
    assert done_summary(path)["engine"].startswith("vllm ")
    assert warnings(path) == []


def test_padding_at_the_end_and_the_longest_conversations(tmp_path: Path, vllm_python: str) -> None:
    """Of a model padded with its end token transformers reads the reward before that token."""
    model = save_classifier(tmp_path / "model", pad_token_id=VOCABULARY["<eos>"], hidden_size=64)
    # <bos>, <user> w0 <eos>, <assistant> ... <eos>: six tokens around the text, of 256 at most
    texts = ["w1", "w2 w3", " ".join(["w4"] * 250), " ".join(["w4"] * 251)]
    groups = [group("p", [completion(f"c{i}", text) for i, text in enumerate(texts)])]
    path = make_attempt(tmp_path / "attempt", groups, vllm_judge(model, max_tokens=1000))
    label(path, vllm_python)
    assert reasons_of(path) == [None, None, None, "too long"]
    fitting = [group("p", groups[0].completions[:3])]
    assert rewards_of(path)[:3] == pytest.approx(plain_rewards(model, fitting), abs=1e-4)
    assert done_summary(path)["engine"].startswith("vllm ")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (GIVES_PROBABILITIES, "and float32 explains a difference of"),
        (LOADS_NOTHING, "vLLM cannot load the reward model at"),
        (SCORES_NOTHING, "scores nothing: RuntimeError: the engine ended"),
    ],
    ids=["other rewards", "not loaded", "nothing scored"],
)
def test_where_vllm_is_wrong_transformers_scores_and_says_why(
    tmp_path: Path, one_logit: Path, vllm_python: str, code: str, said: str
) -> None:
    assert_transformers_scores(
        tmp_path, one_logit, changed_python(tmp_path / "changed", vllm_python, code), said
    )


def test_where_vllm_cannot_be_imported_transformers_scores_and_says_why(
    tmp_path: Path, one_logit: Path, plain_python: str
) -> None:
    python = changed_plain_python(tmp_path / "changed", plain_python, IS_NOT_IMPORTED)
    assert_transformers_scores(tmp_path, one_logit, python, "cannot be imported")


def assert_transformers_scores(tmp_path: Path, one_logit: Path, python: str, said: str) -> None:
    groups = ragged_groups(80, 4)  # more than one block
    path = make_attempt(tmp_path / "attempt", groups, vllm_judge(one_logit))
    label(path, python)
    assert rewards_of(path) == pytest.approx(plain_rewards(one_logit, groups), abs=1e-4)
    assert done_summary(path)["engine"].startswith("transformers ")
    (warning,) = warnings(path)
    assert warning.startswith("label.judge.engine = 'vllm': ")
    assert said in warning
    assert warning.endswith("The reward model is scored with transformers")


@pytest.mark.parametrize("is_known", [True, False], ids=["heads of 16", "ArmoRM"])
def test_a_model_that_vllm_does_not_support_is_scored_with_transformers(
    tmp_path: Path, vllm_python: str, is_known: bool
) -> None:
    model = save_classifier(tmp_path / "model", hidden_size=32 if is_known else 64)
    if not is_known:
        config = json.loads((model / "config.json").read_text())
        config["architectures"] = ["LlamaForRewardModelWithGating"]
        (model / "config.json").write_text(json.dumps(config))
    groups = ragged_groups(3, 4)
    path = make_attempt(tmp_path / "attempt", groups, vllm_judge(model))
    label(path, vllm_python)
    assert rewards_of(path) == pytest.approx(plain_rewards(model, groups), abs=1e-4)
    (warning,) = warnings(path)
    reason = (
        "no kernel for heads of 16"
        if is_known
        else "vLLM does not support LlamaForRewardModelWithGating"
    )
    assert reason in warning


def test_longer_conversations_than_there_is_room_for_get_a_larger_engine(
    tmp_path: Path, one_logit: Path, vllm_python: str
) -> None:
    groups = [
        group(
            f"p{row}",
            [completion(f"c{k}", " ".join([f"w{k}"] * (1 + row // 33 * 60))) for k in range(8)],
        )
        for row in range(34)  # 32 groups are a block
    ]
    path = make_attempt(tmp_path / "attempt", groups, vllm_judge(one_logit))
    label(path, changed_python(tmp_path / "changed", vllm_python, HAS_LITTLE_ROOM))
    assert rewards_of(path) == pytest.approx(plain_rewards(one_logit, groups), abs=1e-4)
    assert warnings(path) == []
    loads = [
        event
        for event in events(path)
        if isinstance(event, PhaseChanged) and event.phase.startswith("loading reward model (vllm")
    ]
    assert len(loads) == 2


def test_an_argument_that_vllm_does_not_have_fails_the_stage(
    tmp_path: Path, one_logit: Path, vllm_python: str
) -> None:
    judge = vllm_judge(one_logit, vllm={"arguments": {"block_sise": 32}})
    path = make_attempt(tmp_path / "attempt", ragged_groups(1, 2), judge)
    assert start(AttemptDir(path), vllm_python, stage="label").wait(timeout=240) == 2
    (reason,) = failures(path)
    assert reason.startswith("label.judge.vllm.arguments.block_sise: ")
    assert "did you mean 'block_size'?" in reason


def ledger_lines(path: Path) -> list[bytes]:
    return AttemptDir(path).rewards.read_bytes().splitlines(keepends=True)


def test_whole_waves_of_the_same_engine_are_taken_over(
    tmp_path: Path, one_logit: Path, vllm_python: str
) -> None:
    groups = ragged_groups(4, 4)
    judge = vllm_judge(one_logit, batch_tokens=128)
    first = make_attempt(tmp_path / "first", groups, judge)
    label(first, vllm_python)
    lengths = [len(expected_ids(row, entry)) for row in groups for entry in row.completions]
    first_wave, second_wave = plan_waves(lengths, 128, 64)[:2]
    assert len(second_wave) > 1
    # the first wave, and one row of the second, with a reward that no model gave
    header, *rows = ledger_lines(first)
    kept = [json.loads(row) | {"reward": 99.0} for row in rows[: len(first_wave) + 1]]
    AttemptDir(first).rewards.write_bytes(
        header + b"".join(json.dumps(row).encode() + b"\n" for row in kept)
    )
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second, vllm_python)
    taken = [index for index, reward in enumerate(rewards_of(second)) if reward == 99.0]
    assert taken == sorted(first_wave)

    other = reward_model_judge(one_logit, batch_tokens=128)
    third = make_attempt(tmp_path / "third", groups, other, earlier=[first])
    label(third, vllm_python)
    assert rewards_of(third) == pytest.approx(plain_rewards(one_logit, groups), abs=1e-4)


def test_a_killed_attempt_goes_on_to_the_same_bytes(
    tmp_path: Path, one_logit: Path, vllm_python: str, plain_python: str
) -> None:
    groups = ragged_groups(300, 8)
    judge = vllm_judge(one_logit, batch_tokens=96)
    first = make_attempt(tmp_path / "first", groups, judge)
    process = start(AttemptDir(first), plain_python, stage="label")
    ledger = AttemptDir(first).rewards
    try:
        wait_for(lambda: ledger.exists() and ledger.stat().st_size > 5_000)
    finally:
        process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert read_done(first) is None
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second, vllm_python)
    whole = make_attempt(tmp_path / "whole", groups, judge)
    label(whole, vllm_python)
    assert AttemptDir(second).scores.read_bytes() == AttemptDir(whole).scores.read_bytes()
    assert AttemptDir(second).feedback.read_bytes() == AttemptDir(whole).feedback.read_bytes()

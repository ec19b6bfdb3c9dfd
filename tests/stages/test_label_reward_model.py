"""The reward_model judge against plain transformers, one sequence per forward."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.config.schema import RewardModelJudge
from halos_backend.errors import StageError, UsageError
from halos_backend.records import Group
from halos_backend.stages.label import reward_model
from halos_backend.stages.label.judge import label_rows
from halos_backend.stages.label.packed import (
    packs_rewards,
    plan_batches,
    plan_packed,
    shared_beginnings,
)
from halos_backend.stages.label.reward_model import ClassifierJudge, load_judge, scoring_dtype
from halos_backend.stages.ranks import Ranks
from halos_backend.store.manifest import read_done
from halos_backend.store.run_dir import AttemptDir
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)
from transformers.modeling_outputs import ModelOutput

from tests.support.label_fixtures import (
    VOCABULARY,
    completion,
    expected_ids,
    failures,
    group,
    label,
    make_attempt,
    ragged_groups,
    reasons_of,
    reward_model_judge,
    rewards_of,
    run_stage_process,
    save_classifier,
    save_tokenizer,
    start_stage,
    tiny_config,
    warnings,
    words,
)


def plain_rewards(path: Path, groups: Sequence[Group], *, logit: int = 0) -> list[float]:
    """Rewards by plain transformers on hand-made token ids, without padding or batches."""
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    rewards = []
    with torch.no_grad():
        for row in groups:
            for entry in row.completions:
                output = model(input_ids=torch.tensor([expected_ids(row, entry)]))
                score = output.score if "score" in output else output.logits[:, logit]
                rewards.append(float(score.reshape(())))
    return rewards


def label_with(tmp_path: Path, groups: Sequence[Group], model: Path, **settings: Any) -> Path:
    judge = reward_model_judge(model, **settings)
    path = make_attempt(tmp_path / "attempt", groups, judge)
    label(path)
    return path


@pytest.fixture(scope="module")
def one_logit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("models") / "one_logit")


def test_batched_rewards_equal_one_sequence_per_forward(tmp_path: Path, one_logit: Path) -> None:
    groups = ragged_groups(6, 4)
    path = label_with(tmp_path, groups, one_logit, batch_tokens=200)
    expected = plain_rewards(one_logit, groups)
    assert rewards_of(path) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


@pytest.mark.parametrize("packs", [True, False])
def test_equal_completions_get_the_same_reward_and_are_scored_once(
    tmp_path: Path, one_logit: Path, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of other shapes they would differ in the last digits."""
    if not packs:
        monkeypatch.setattr(reward_model, "packs_rewards", lambda *_: False)
    said = [words(number, 1 + number % 9) for number in range(6)]
    groups = [
        group(f"p{row}", [completion(f"p{row}-c{i}", said[(row + i) % 4]) for i in range(9)])
        for row in range(3)
    ]
    judge = load_judge(
        RewardModelJudge(kind="reward_model", path=str(one_logit), batch_tokens=24),
        Ranks(0, 1, torch.device("cpu")), dtype=torch.float32, identity="",
    )  # fmt: skip
    scored: list[int] = []
    whole = ClassifierJudge._rewards

    def counted(self: Any, batch: Any, pad_id: int) -> list[float]:
        scored.extend(batch)
        return whole(self, batch, pad_id)

    monkeypatch.setattr(ClassifierJudge, "_rewards", counted)
    rows = label_rows(groups)
    rewards = dict(judge.score(rows, {}))
    assert len(rewards) == len(rows) == 27
    assert len(scored) == 4  # the prompts are the same too
    by_text: dict[str, set[Any]] = {}
    for index, row in enumerate(rows):
        by_text.setdefault(row.text, set()).add(rewards[index])
    assert all(len(values) == 1 for values in by_text.values())
    expected = plain_rewards(one_logit, groups)
    assert [rewards[i] for i in range(27)] == pytest.approx(expected, abs=1e-5)

    scored.clear()  # what is known of one is known of all that are equal
    one_of_each = {rows.index(row): 7.0 for row in rows[:4]} | {26: 7.0}
    assert set(dict(judge.score(rows, one_of_each)).values()) == {7.0}
    assert scored == []


def test_groups_of_equal_completions_are_left_out_of_scalar_feedback_and_counted(
    tmp_path: Path, one_logit: Path
) -> None:
    other = [completion(f"q-c{i}", words(i, 3 + i)) for i in range(4)]
    same = [completion(f"p-c{i}", "w5 w6 w7") for i in range(4)]
    path = make_attempt(
        tmp_path / "attempt", [group("p", same), group("q", other)],
        reward_model_judge(one_logit, batch_tokens=16), feedback={"kind": "scalar"},
    )  # fmt: skip
    summary = label(path).summary.as_json()
    assert summary["num_equal_groups"] == summary["num_pairs_dropped"] == 1
    assert len(set(rewards_of(path)[:4])) == 1


def test_of_two_logits_the_second_is_the_reward(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model", num_labels=2)
    groups = ragged_groups(3, 3)
    path = label_with(tmp_path, groups, model)
    assert rewards_of(path) == pytest.approx(plain_rewards(model, groups, logit=1), abs=1e-5)


class GatedConfig(LlamaConfig):
    model_type = "halos_test_gated"


@dataclass
class GatedOutput(ModelOutput):
    """ArmoRM's way: many objectives as logits, and their gated sum as `score`."""

    logits: torch.Tensor | None = None
    score: torch.Tensor | None = None


class GatedModel(LlamaModel):
    config_class = GatedConfig


class GatedRewardModel(LlamaForSequenceClassification):
    config_class = GatedConfig

    def forward(self, *args: Any, **kwargs: Any) -> GatedOutput:
        logits = super().forward(*args, **kwargs).logits
        return GatedOutput(logits=logits, score=(logits.softmax(-1) * logits).sum(-1))


def test_an_output_with_a_score_gives_that(tmp_path: Path) -> None:
    AutoConfig.register("halos_test_gated", GatedConfig, exist_ok=True)
    AutoModel.register(GatedConfig, GatedModel, exist_ok=True)
    AutoModelForSequenceClassification.register(GatedConfig, GatedRewardModel, exist_ok=True)
    model = tmp_path / "model"
    torch.manual_seed(3)
    GatedRewardModel(GatedConfig(**_plain(tiny_config(num_labels=5)))).save_pretrained(model)
    save_tokenizer(model)
    groups = ragged_groups(3, 3)
    path = label_with(tmp_path, groups, model)
    assert rewards_of(path) == pytest.approx(plain_rewards(model, groups), abs=1e-5)


def _plain(config: LlamaConfig) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name != "model_type"}


@pytest.mark.parametrize("pad", [None, "<eos>"])
def test_without_a_padding_token_the_last_token_stays_the_end_token(
    tmp_path: Path, pad: str | None
) -> None:
    # Padding with <eos>, the usual stand-in, would move the reward to the token before <eos>.
    model = save_classifier(tmp_path / "model", pad_token_id=None)
    save_tokenizer(model, pad=pad)
    groups = ragged_groups(3, 4)
    path = label_with(tmp_path, groups, model)
    assert rewards_of(path) == pytest.approx(plain_rewards(model, groups), abs=1e-5)


def test_a_model_padded_with_its_end_token_is_read_as_transformers_reads_it(
    tmp_path: Path,
) -> None:
    model = save_classifier(tmp_path / "model", pad_token_id=VOCABULARY["<eos>"])
    groups = ragged_groups(3, 4)
    path = label_with(tmp_path, groups, model)
    assert rewards_of(path) == pytest.approx(plain_rewards(model, groups), abs=1e-5)


def test_text_is_scored_whole_and_every_turn_is_seen(tmp_path: Path, one_logit: Path) -> None:
    # HALOs chops text at the last full stop; these three would then be one.
    texts = ["w1 w2", "w1 w2 w3", "w1 w2 w4"]
    groups = [group("p", [completion(text, text) for text in texts], content="w9 w8")]
    rewards = rewards_of(label_with(tmp_path, groups, one_logit))
    assert len(set(rewards)) == 3
    assert rewards == pytest.approx(plain_rewards(one_logit, groups), abs=1e-5)


def test_too_long_is_unscored_and_the_rest_is_scored(tmp_path: Path, one_logit: Path) -> None:
    groups = ragged_groups(4, 4)
    lengths = [len(expected_ids(row, entry)) for row in groups for entry in row.completions]
    limit = sorted(lengths)[-5]
    path = label_with(tmp_path, groups, one_logit, max_tokens=limit)
    expected = plain_rewards(one_logit, groups)
    for length, reward, reason, plain in zip(
        lengths, rewards_of(path), reasons_of(path), expected, strict=True
    ):
        assert reason == ("too long" if length > limit else None)
        assert reward == (None if length > limit else pytest.approx(plain, abs=1e-5))
    num_long = sum(length > limit for length in lengths)
    assert num_long > 0
    (warning,) = warnings(path)
    assert warning.startswith("label.judge.path = '")
    assert warning.endswith(f": {num_long} of 16 completions are unscored: too long ({num_long})")


def test_the_models_context_is_a_limit_too(tmp_path: Path, one_logit: Path) -> None:
    text = " ".join(["w1"] * 251)  # with the prompt's 3 tokens, <bos> and 2 around it 257
    groups = [group("p", [completion("a", text), completion("b", text[:-3])])]
    path = label_with(tmp_path, groups, one_logit, max_tokens=1000)
    assert reasons_of(path) == ["too long", None]


def spoil(path: Path, token: str, value: float) -> None:
    """Make every conversation that holds `token` come out as not finite."""
    model = LlamaForSequenceClassification.from_pretrained(path)
    with torch.no_grad():
        model.get_input_embeddings().weight[VOCABULARY[token]] = value
    model.save_pretrained(path)


def test_a_reward_that_is_not_finite_is_unscored_alone(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    spoil(model, "w50", float("nan"))
    texts = ["w1 w2", "w1 w50 w2", "w3"]
    groups = [group("p", [completion(text, text) for text in texts])]
    path = label_with(tmp_path, groups, model)
    assert reasons_of(path) == [None, "reward is nan", None]
    assert None not in (rewards_of(path)[0], rewards_of(path)[2])


def test_a_model_that_gives_only_nan_fails_the_stage(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    spoil(model, "<bos>", float("nan"))
    with pytest.raises(StageError, match=r"scored none of 4 completions: reward is nan \(4 times"):
        label_with(tmp_path, ragged_groups(2, 2), model)


def test_three_logits_are_no_reward_model(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model", num_labels=3)
    path = make_attempt(tmp_path / "attempt", ragged_groups(1, 2), reward_model_judge(model))
    assert run_stage_process(path) == 2
    (reason,) = failures(path)
    assert reason.startswith(f"{model} is no reward model: its output has shape (2, 3)")
    assert b"Traceback" not in AttemptDir(path).log.read_bytes()


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    LlamaForCausalLM(tiny_config()).save_pretrained(model)
    save_tokenizer(model)
    with pytest.raises(UsageError, match=r"is no reward model: its weights have no score\.weight"):
        label_with(tmp_path, ragged_groups(1, 2), model)


def test_a_tokenizer_without_template_is_refused(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    save_tokenizer(tmp_path / "plain", template=None)
    (model / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match=r"reward model .* has no chat template"):
        label_with(tmp_path, ragged_groups(1, 2), model)


def test_a_template_that_refuses_a_conversation_leaves_it_unscored(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "model")
    save_tokenizer(
        model,
        template="{% if messages[-1].content == 'w3' %}{{ raise_exception('no w3') }}{% endif %}"
        "<bos>{% for message in messages %} {{ message.content }}{% endfor %} <eos>",
    )
    groups = [group("p", [completion("a", "w3"), completion("b", "w4")])]
    path = label_with(tmp_path, groups, model)
    assert reasons_of(path) == ["the reward model's chat template refused it: no w3", None]


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    config.vocab_size = 20
    model = tmp_path / "model"
    LlamaForSequenceClassification(config).save_pretrained(model)
    save_tokenizer(model)
    with pytest.raises(UsageError, match="the model knows only 20; the two do not belong"):
        label_with(tmp_path, ragged_groups(2, 2), model)


def test_auto_dtype_is_float32_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert scoring_dtype("auto", cpu) is torch.float32
    assert scoring_dtype("bfloat16", cpu) is torch.bfloat16


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200))
def test_a_batch_plan_takes_each_once_within_the_budget(
    lengths: list[int], batch_tokens: int
) -> None:
    plan = plan_batches(lengths, batch_tokens)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        assert (
            len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= batch_tokens
        )
    # No batch has room for the first sequence of the next one.
    for batch, following in pairwise(plan):
        assert lengths[batch[0]] * (len(batch) + 1) > batch_tokens
        assert lengths[batch[-1]] >= lengths[following[0]]


def test_a_batch_plan_by_hand() -> None:
    # Longest first, ties by position; 12 tokens: 7 | 4 4 4 | 3 1.
    assert plan_batches([4, 7, 1, 4, 3, 4], 12) == [(1,), (0, 3, 5), (4, 2)]


def packed_plan(groups: Sequence[Group], batch_tokens: int) -> list[tuple[int, ...]]:
    """The batches of these groups, as a model that takes packed rows has them."""
    ids = [expected_ids(row, entry) for row in groups for entry in row.completions]
    sequences = dict(enumerate(ids))
    prompts = dict(enumerate(row.prompt_id for row in groups for _ in row.completions))
    return plan_packed(sequences, shared_beginnings(sequences, prompts), batch_tokens)


def test_conversations_of_a_prompt_share_what_they_begin_with() -> None:
    sequences = {0: [1, 2, 3, 4], 1: [1, 2, 3, 5, 6], 3: [1, 2, 9], 4: [7, 8], 5: [7, 8, 9]}
    prompts = dict.fromkeys((0, 1), "a") | {2: "a", 3: "b", 4: "c", 5: "c"}
    # of the last two the first is the other's beginning: a token of it is left over
    assert shared_beginnings(sequences, prompts) == {0: 3, 1: 3, 3: 2, 4: 1, 5: 1}


def test_a_packed_plan_by_hand() -> None:
    # a: 3 tokens shared, then 1 and 2; b: 3 in all; c: 1 shared, then 1 and 2
    sequences = {0: [1, 2, 3, 4], 1: [1, 2, 3, 5, 6], 3: [1, 2, 9], 4: [7, 8], 5: [7, 8, 9]}
    shared = {0: 3, 1: 3, 3: 2, 4: 1, 5: 1}
    assert plan_packed(sequences, shared, 9) == [(0, 1, 3), (4, 5)]
    assert plan_packed(sequences, shared, 8) == [(0, 1), (3, 4, 5)]
    assert plan_packed(sequences, shared, 7) == [(0, 1), (3, 4, 5)]
    assert plan_packed(sequences, shared, 5) == [(0,), (1,), (3, 4), (5,)]


class Counted:
    """How many tokens go through a classifier's layers."""

    def __init__(self, judge: ClassifierJudge) -> None:
        self.num_tokens = 0
        judge.model.model.layers[0].mlp.register_forward_hook(self._count)

    def _count(self, _module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        self.num_tokens += inputs[0].shape[:2].numel()


@pytest.mark.parametrize("pad_token_id", [VOCABULARY["<pad>"], VOCABULARY["<eos>"], None])
def test_packed_rewards_equal_padded_ones_with_fewer_tokens(
    tmp_path: Path, pad_token_id: int | None
) -> None:
    model = save_classifier(tmp_path / "model", pad_token_id=pad_token_id)
    groups = ragged_groups(5, 4)
    settings = RewardModelJudge(kind="reward_model", path=str(model))
    ranks = Ranks(0, 1, torch.device("cpu"))
    packed = load_judge(settings, ranks, dtype=torch.float32, identity="packed")
    assert packed.packs
    padded = replace(
        load_judge(settings, ranks, dtype=torch.float32, identity="padded"), packs=False
    )
    rows = label_rows(groups)
    counted = Counted(packed), Counted(padded)
    found, expected = (dict(judge.score(rows, {})) for judge in (packed, padded))
    assert found.keys() == expected.keys()
    for index, reward in expected.items():
        assert found[index] == pytest.approx(reward, abs=1e-5)
    assert counted[0].num_tokens < 0.6 * counted[1].num_tokens


def test_a_score_of_another_hidden_state_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LlamaForSequenceClassification(tiny_config()).eval()
    assert packs_rewards(model, torch.device("cpu"), None)

    class Centred(LlamaForSequenceClassification):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits - 1
            return output

    centred = Centred(tiny_config()).eval()
    assert not packs_rewards(centred, torch.device("cpu"), None)
    assert centred.config._attn_implementation == "sdpa"


def ledger_lines(path: Path) -> list[bytes]:
    return AttemptDir(path).rewards.read_bytes().splitlines(keepends=True)


def test_only_whole_batches_are_taken_over(tmp_path: Path, one_logit: Path) -> None:
    groups = ragged_groups(4, 4)
    judge = reward_model_judge(one_logit, batch_tokens=128)
    first = make_attempt(tmp_path / "first", groups, judge)
    label(first)
    first_batch, second_batch = packed_plan(groups, 128)[:2]
    assert len(second_batch) > 1
    # Keep the first batch and one row of the second, all with a reward that no model gave, and a
    # torn line.
    header, *rows = ledger_lines(first)
    kept = [json.loads(row) | {"reward": 99.0} for row in rows[: len(first_batch) + 1]]
    torn = rows[len(kept)][:20]
    AttemptDir(first).rewards.write_bytes(
        header + b"".join(json.dumps(row).encode() + b"\n" for row in kept) + torn
    )
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    label(second)
    taken = [index for index, reward in enumerate(rewards_of(second)) if reward == 99.0]
    assert taken == sorted(first_batch)


def test_a_killed_attempt_goes_on_to_the_same_bytes(tmp_path: Path, one_logit: Path) -> None:
    groups = ragged_groups(150, 8)
    judge = reward_model_judge(one_logit, batch_tokens=96)
    first = make_attempt(tmp_path / "first", groups, judge)
    process = start_stage(first)
    deadline = time.monotonic() + 60
    ledger = AttemptDir(first).rewards
    while not ledger.exists() or ledger.stat().st_size < 5_000:
        assert time.monotonic() < deadline
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert read_done(first) is None
    num_done = len(ledger_lines(first)) - 1
    assert 0 < num_done < 1200
    second = make_attempt(tmp_path / "second", groups, judge, earlier=[first])
    assert run_stage_process(second) == 0
    whole = make_attempt(tmp_path / "whole", groups, judge)
    assert run_stage_process(whole) == 0
    assert AttemptDir(second).scores.read_bytes() == AttemptDir(whole).scores.read_bytes()
    assert AttemptDir(second).feedback.read_bytes() == AttemptDir(whole).feedback.read_bytes()


def test_another_reward_model_takes_nothing_over(tmp_path: Path, one_logit: Path) -> None:
    groups = ragged_groups(2, 2)
    first = make_attempt(tmp_path / "first", groups, reward_model_judge(one_logit))
    label(first)
    other = save_classifier(tmp_path / "other", num_labels=2)
    second = make_attempt(tmp_path / "second", groups, reward_model_judge(other), earlier=[first])
    label(second)
    assert rewards_of(second) == pytest.approx(plain_rewards(other, groups, logit=1), abs=1e-5)

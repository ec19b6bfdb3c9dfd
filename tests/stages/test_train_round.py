"""Whole rounds on tiny real policies, against computations of their own."""

from __future__ import annotations

import errno
import math
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.errors import NonFiniteError, OtherPolicyError, StageError
from halos_backend.events import Warned
from halos_backend.records import (
    CanaryRow,
    Completion,
    PreferencePair,
    UnpairedFeedback,
    write_rows,
)
from halos_backend.stages.train.batches import plan_steps
from halos_backend.stages.train.examples import UnpairedExample, read_examples
from halos_backend.store.prompt_order import derived_seed
from halos_backend.store.run_dir import AttemptDir
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.support.train_fixtures import (
    END,
    GOOD,
    MESSAGES,
    TEMPLATE,
    events,
    groups,
    kl_alone,
    load_plain,
    make_attempt,
    make_gemma3,
    make_policy,
    metrics,
    pairs,
    token_logps_alone,
    train,
    unpaired,
    warnings_of,
    weights_of,
    write_completions,
)

ROWS: dict[str, Any] = {
    "dpo": pairs(12),
    "cdpo": pairs(12),
    "ipo": pairs(12),
    "robust": pairs(12),
    "exo": pairs(12),
    "apo_zero": pairs(12),
    "apo_down": pairs(12),
    "sppo": pairs(12),
    "bco": pairs(12),
    "simpo": pairs(12),
    "slic": pairs(12),
    "bradley_terry": pairs(12),
    "kto": unpaired(12),
    "sft": unpaired(12),
    "csft": unpaired(12),
    "grpo": groups(3),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another policy, near the first: a reference whose log-ratios are not 0."""
    path = make_policy(tmp_path_factory.mktemp("other"))
    model = load_plain(path)
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    model.save_pretrained(path)
    return path


def one_step(tmp_path: Path, rows: Any, loss: dict[str, Any], **inputs: Any) -> dict[str, float]:
    """Metrics of a round of one step over all rows."""
    attempt = make_attempt(tmp_path / "attempt", rows, loss=loss, batch_size=64, **inputs)
    train(attempt)
    return metrics(attempt)[1]


def logratio(policy: Any, reference: Any, row: Any, completion: Completion) -> torch.Tensor:
    ids = (row.prompt_token_ids, completion.token_ids)
    return (token_logps_alone(policy, *ids) - token_logps_alone(reference, *ids)).sum()


@pytest.mark.parametrize("kind", list(ROWS))
def test_loss_falls_on_the_batch_it_is_trained_on(kind: str, policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(
        tmp_path / "attempt",
        ROWS[kind],
        model=policy,
        reference=policy,
        loss={"kind": kind},
        batch_size=12,
        num_epochs=8,
        lr=3e-3 if kind != "grpo" else 3e-4,
    )
    summary = train(attempt)
    logged = metrics(attempt)
    losses = [logged[step]["loss"] for step in range(1, 9)]
    assert losses[-1] < losses[0] - 0.02, losses
    assert summary["num_steps"] == 8
    assert (summary["loss_first"], summary["loss_last"]) == (losses[0], losses[-1])
    assert math.isfinite(summary["grad_norm_mean"])


def test_first_dpo_step_equals_a_plain_computation(
    policy: Path, other: Path, tmp_path: Path
) -> None:
    rows = pairs(10)
    found = one_step(tmp_path, rows, {"kind": "dpo", "beta": 0.3}, model=policy, reference=other)
    ours, theirs = load_plain(policy), load_plain(other)
    chosen = torch.stack([logratio(ours, theirs, row, row.chosen) for row in rows])
    rejected = torch.stack([logratio(ours, theirs, row, row.rejected) for row in rows])
    margins = 0.3 * (chosen - rejected)
    assert margins.abs().max() > 0.05
    assert found["loss"] == pytest.approx((1 + (-margins).exp()).log().mean().item(), abs=1e-5)
    assert found["implicit_reward_chosen"] == pytest.approx(0.3 * chosen.mean().item(), abs=1e-5)
    assert found["implicit_reward_margin"] == pytest.approx(margins.mean().item(), abs=1e-5)
    assert found["implicit_reward_accuracy"] == pytest.approx((margins > 0).double().mean().item())
    assert found["beta"] == 0.3
    assert found["num_examples"] == 10
    assert found["num_tokens"] == sum(
        2 * len(r.prompt_token_ids) + len(r.chosen.token_ids) + len(r.rejected.token_ids)
        for r in rows
    )


def test_first_bco_step_measures_from_the_mean_implicit_reward_of_the_step(
    policy: Path, other: Path, tmp_path: Path
) -> None:
    rows = pairs(10)
    settings = {"kind": "bco", "beta": 0.3}
    found = one_step(tmp_path, rows, settings, model=policy, reference=other, microbatch_tokens=60)
    ours, theirs = load_plain(policy), load_plain(other)
    rewards = [
        torch.stack([0.3 * logratio(ours, theirs, row, getattr(row, side)) for row in rows])
        for side in ("chosen", "rejected")
    ]
    shift = torch.cat(rewards).mean()
    assert abs(shift) > 1e-3
    losses = (1 + (shift - rewards[0]).exp()).log() + (1 + (rewards[1] - shift).exp()).log()
    assert found["loss"] == pytest.approx(losses.mean().item(), abs=1e-5)
    assert found["bco_shift"] == pytest.approx(shift.item(), abs=1e-5)


def test_first_dpo_gradient_norm_equals_autograds(
    policy: Path, other: Path, tmp_path: Path
) -> None:
    rows = pairs(6)
    found = one_step(tmp_path, rows, {"kind": "dpo"}, model=policy, reference=other)
    ours, theirs = load_plain(policy), load_plain(other)
    margins = torch.stack(
        [
            logratio(ours, theirs, row, row.chosen) - logratio(ours, theirs, row, row.rejected)
            for row in rows
        ]
    )
    (-torch.nn.functional.logsigmoid(0.1 * margins)).mean().backward()
    squares = sum((w.grad.double() ** 2).sum() for w in ours.parameters())
    assert found["grad_norm"] == pytest.approx(math.sqrt(squares), rel=1e-4)


def test_first_kto_step_equals_a_plain_computation(
    policy: Path, other: Path, tmp_path: Path
) -> None:
    rows = unpaired(9)
    settings = {"kind": "kto", "desirable_weight": 1.5, "undesirable_weight": 0.5}
    # in this direction the mismatched log-ratios have a mean over 0, which the clamp leaves
    found = one_step(tmp_path, rows, settings, model=other, reference=policy)

    ours, theirs = load_plain(other), load_plain(policy)

    def sequence_logratio(prompt: Any, completion: Any) -> float:
        ids = (prompt, completion)
        return (token_logps_alone(ours, *ids) - token_logps_alone(theirs, *ids)).sum().item()

    # the order of the step decides who is paired with whom
    attempt = AttemptDir(tmp_path / "attempt")
    made = read_examples(
        attempt.path.parent / "attempt.feedback.jsonl",
        _loss_of(attempt),
        None,
    )
    (step,) = plan_steps(made.examples, batch_size=64, num_epochs=1, seed=derived_seed(7, 1))
    examples = [e for e in step.examples if isinstance(e, UnpairedExample)]
    sequences = [e.sequence for e in examples]
    shifted = [*sequences[1:], sequences[0]]
    mismatched = [
        sequence_logratio(own.prompt, next_one.completion)
        for own, next_one in zip(sequences, shifted, strict=True)
    ]
    kl = sum(mismatched) / len(mismatched)
    assert kl > 0.01
    losses = []
    for example in examples:
        ratio = sequence_logratio(example.sequence.prompt, example.sequence.completion)
        sign, weight = (1, 1.5) if example.is_desirable else (-1, 0.5)
        losses.append(weight * (1 - 1 / (1 + math.exp(-sign * 0.1 * (ratio - kl)))))
    assert found["kto_kl"] == pytest.approx(kl, abs=1e-5)
    assert found["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def _loss_of(attempt: AttemptDir) -> Any:
    from halos_backend.stages.runtime import open_attempt

    return open_attempt(attempt.path).settings.train.loss


@pytest.mark.parametrize("aggregation", ["token", "sequence"])
def test_first_grpo_step_equals_a_plain_computation(
    aggregation: str, policy: Path, other: Path, tmp_path: Path
) -> None:
    rows = groups(4)
    settings = {"kind": "grpo", "beta": 0.2, "aggregation": aggregation}
    found = one_step(tmp_path, rows, settings, model=policy, reference=other)
    ours, theirs = load_plain(policy), load_plain(other)
    token_losses, absolute = [], []
    for group in rows:
        rewards = [c.reward or 0.0 for c in group.completions]
        mean = sum(rewards) / len(rewards)
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
        for completion in group.completions:
            advantage = ((completion.reward or 0.0) - mean) / (std + 1e-4)
            absolute.append(abs(advantage))
            ids = (group.prompt_token_ids, completion.token_ids)
            ratio = token_logps_alone(theirs, *ids) - token_logps_alone(ours, *ids)
            # the policy has not moved yet: its ratio to the old one is 1
            token_losses.append(0.2 * (ratio.exp() - ratio - 1) - advantage)
    if aggregation == "token":
        expected = torch.cat(token_losses).mean()
    else:
        expected = torch.stack([losses.mean() for losses in token_losses]).mean()
    assert found["loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert found["advantage_abs_mean"] == pytest.approx(sum(absolute) / len(absolute), abs=1e-5)
    assert found["clip_frac"] == 0.0


def test_grpo_measures_its_ratio_from_the_start_of_the_round(policy: Path, tmp_path: Path) -> None:
    """In the second epoch the policy has moved: its loss is computed here from the saved policy."""
    rows = groups(3)
    settings = {"kind": "grpo", "beta": 0.0, "clip_low": 0.9, "clip_high": 9.0}
    shared: dict[str, Any] = {
        "model": policy, "reference": policy, "loss": settings, "batch_size": 12, "lr": 3e-4
    }  # fmt: skip
    one = make_attempt(tmp_path / "one", rows, num_epochs=1, **shared)
    two = make_attempt(tmp_path / "two", rows, num_epochs=2, **shared)
    train(one)
    train(two)
    moved, start = load_plain(one.checkpoint), load_plain(policy)
    losses = []
    for group in rows:
        rewards = torch.tensor([c.reward for c in group.completions], dtype=torch.float64)
        scaled = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4)
        for advantage, completion in zip(scaled, group.completions, strict=True):
            ids = (group.prompt_token_ids, completion.token_ids)
            ratio = (token_logps_alone(moved, *ids) - token_logps_alone(start, *ids)).exp()
            losses.append(-advantage * ratio)
    assert metrics(two)[2]["loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


def test_first_sft_step_is_the_mean_over_the_steps_tokens(policy: Path, tmp_path: Path) -> None:
    rows = unpaired(9)
    found = one_step(tmp_path, rows, {"kind": "sft"}, model=policy)
    ours = load_plain(policy)
    desirable = [row for row in rows if row.is_desirable]
    logps = torch.cat(
        [token_logps_alone(ours, r.prompt_token_ids, r.completion.token_ids) for r in desirable]
    )
    assert found["loss"] == pytest.approx(-logps.mean().item(), abs=1e-5)
    assert found["num_examples"] == 6


def test_reward_model_scores_the_last_token_and_its_checkpoint_is_a_classifier(
    policy: Path, tmp_path: Path
) -> None:
    rows = pairs(8)
    shared: dict[str, Any] = {"model": policy, "loss": {"kind": "bradley_terry"}, "batch_size": 8}
    one = make_attempt(tmp_path / "one", rows, num_epochs=6, **shared)
    two = make_attempt(tmp_path / "two", rows, num_epochs=7, **shared)
    summary = train(one)
    train(two)
    assert summary["kl_initial"] is None
    judge = AutoModelForSequenceClassification.from_pretrained(one.checkpoint).eval()
    assert judge.config.num_labels == 1

    def reward(row: PreferencePair, completion: Completion) -> torch.Tensor:
        ids = torch.tensor([[*row.prompt_token_ids, *completion.token_ids]])
        hidden = judge.model(input_ids=ids).last_hidden_state
        return judge.score(hidden[0, -1]).squeeze()

    margins = torch.stack([reward(r, r.chosen) - reward(r, r.rejected) for r in rows])
    expected = (1 + (-margins).exp()).log().mean()
    assert metrics(two)[7]["loss"] == pytest.approx(expected.item(), abs=1e-5)
    accuracy = (margins > 0).double().mean().item()
    assert metrics(two)[7]["implicit_reward_accuracy"] == pytest.approx(accuracy)


def test_the_score_head_starts_the_same_every_time(policy: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("one", "two"):
        torch.manual_seed(len(losses))  # what went before must not matter
        found = one_step(tmp_path / name, pairs(4), {"kind": "bradley_terry"}, model=policy)
        losses.append(found["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["dpo", "ipo", "kto", "grpo", "sft", "bradley_terry"])
def test_microbatches_and_their_padding_do_not_change_the_step(
    kind: str, policy: Path, other: Path, tmp_path: Path
) -> None:
    found, updates = [], []
    for name, budget in (("whole", 10_000), ("split", 24)):
        attempt = make_attempt(
            tmp_path / name,
            ROWS[kind],
            model=policy,
            reference=other,
            loss={"kind": kind},
            batch_size=12,
            num_epochs=3,
            microbatch_tokens=budget,
        )
        train(attempt)
        found.append(metrics(attempt))
        start, end = weights_of(policy), weights_of(attempt.checkpoint)
        updates.append(torch.cat([(end[n] - start[n]).flatten() for n in start if n in end]))
    for step in (1, 2, 3):
        for name in ("loss", "grad_norm", "implicit_reward_margin", "kto_kl", "clip_frac"):
            if name in found[0][step]:
                assert found[1][step][name] == pytest.approx(found[0][step][name], abs=2e-4)
    assert (updates[1] - updates[0]).norm() < 1e-3 * updates[0].norm()


def test_same_seed_gives_bit_identical_weights(policy: Path, tmp_path: Path) -> None:
    results = []
    for name in ("one", "two"):
        torch.manual_seed(len(results))
        attempt = make_attempt(
            tmp_path / name, pairs(20), model=policy, reference=policy, loss={"kind": "dpo"},
            batch_size=6,
        )  # fmt: skip
        train(attempt)
        results.append(weights_of(attempt.checkpoint))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_reference_is_the_policy_of_the_job_not_the_moving_one(
    policy: Path, tmp_path: Path
) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", pairs(8), model=policy, reference=policy, loss={"kind": "dpo"},
        batch_size=8, num_epochs=5,
    )  # fmt: skip
    train(attempt)
    logged = metrics(attempt)
    assert logged[1]["implicit_reward_margin"] == pytest.approx(0.0, abs=1e-6)
    assert logged[5]["implicit_reward_margin"] > 0.01


def test_kl_to_the_initial_policy_is_zero_without_opening_the_completions_in_round_one(
    policy: Path, tmp_path: Path
) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", pairs(4), model=policy, reference=policy, loss={"kind": "dpo"},
        completions=tmp_path / "absent.jsonl",
    )  # fmt: skip
    summary = train(attempt)
    assert (summary["kl_initial"], summary["kl_initial_stderr"]) == (0.0, 0.0)
    assert metrics(attempt)[0] == {"kl_initial": 0.0, "kl_initial_stderr": 0.0}


@pytest.mark.parametrize("reference_is_initial", [False, True])
@pytest.mark.parametrize("kind", ["dpo", "grpo", "sft"])
def test_kl_to_the_initial_policy_is_estimated_on_the_rounds_completions(
    policy: Path, other: Path, tmp_path: Path, kind: str, reference_is_initial: bool
) -> None:
    rows = groups(5)
    completions = tmp_path / "completions.jsonl"
    write_rows(completions, rows)
    attempt = make_attempt(
        tmp_path / "attempt", rows[:3] if kind == "grpo" else pairs(4), model=policy, initial=other,
        reference=other if reference_is_initial else policy, loss={"kind": kind},
        completions=completions, num_kl_completions=20,
    )  # fmt: skip
    summary = train(attempt)
    ours, initial = load_plain(policy), load_plain(other)
    values = []
    for group in rows:
        for completion in group.completions:
            ids = (group.prompt_token_ids, completion.token_ids)
            values.append(kl_alone(ours, initial, *ids).sum().item())
    expected = torch.tensor(values, dtype=torch.float64)
    assert summary["kl_initial"] == pytest.approx(expected.mean().item(), rel=1e-4)
    stderr = expected.view(5, 4).mean(1).std().item() / math.sqrt(5)  # completions are alike
    assert summary["kl_initial_stderr"] == pytest.approx(stderr, rel=1e-4)
    assert metrics(attempt)[0] == {
        name: summary[name] for name in ("kl_initial", "kl_initial_stderr")
    }


def test_kl_sees_csfts_completions_behind_the_text_they_were_sampled_with(
    policy: Path, other: Path, tmp_path: Path
) -> None:
    (group,) = groups(1, size=1)
    completions = tmp_path / "completions.jsonl"
    write_rows(completions, [group])
    attempt = make_attempt(
        tmp_path / "attempt", unpaired(4), model=policy, initial=other, loss={"kind": "csft"},
        completions=completions,
    )  # fmt: skip
    summary = train(attempt)
    ids = ((*group.prompt_token_ids, GOOD), group.completions[0].token_ids)
    exact = kl_alone(load_plain(policy), load_plain(other), *ids).sum().item()
    assert summary["kl_initial"] == pytest.approx(exact, rel=1e-4)
    assert summary["kl_initial_stderr"] is None


def test_kl_takes_only_so_many_completions(policy: Path, other: Path, tmp_path: Path) -> None:
    completions = tmp_path / "completions.jsonl"
    write_rows(completions, groups(5))
    found = []
    for name, count in (("few", 3), ("same", 3), ("all", 20)):
        attempt = make_attempt(
            tmp_path / name, pairs(4), model=policy, initial=other, reference=policy,
            loss={"kind": "dpo"}, completions=completions, num_kl_completions=count,
        )  # fmt: skip
        found.append(train(attempt)["kl_initial"])
    assert found[0] == found[1] != found[2]


def test_lr_follows_the_schedule_over_the_rounds_part_of_the_run(
    policy: Path, tmp_path: Path
) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", pairs(8), model=policy, reference=policy, loss={"kind": "dpo"},
        batch_size=2, lr=1e-3, schedule="linear", warmup_frac=0.2, progress=(0.0, 0.4),
    )  # fmt: skip
    summary = train(attempt)
    lrs = [metrics(attempt)[step]["lr"] for step in (1, 2, 3, 4)]
    # progress at the steps' middles is 0.05, 0.15, 0.25, 0.35; the warm-up ends at 0.2
    assert lrs == pytest.approx([0.25e-3, 0.75e-3, 0.9375e-3, 0.8125e-3])
    assert summary["lr_last"] == lrs[-1]


def test_first_update_is_adamws_clipped_and_decayed_only_in_matrices(
    policy: Path, tmp_path: Path
) -> None:
    """Adam's first step moves each weight by lr * g / (|g| + epsilon) whatever the clipping."""
    rows, lr, decay, epsilon = pairs(6), 1e-3, 0.5, 1e-3
    attempt = make_attempt(
        tmp_path / "attempt", rows, model=policy, loss={"kind": "simpo"}, batch_size=6, lr=lr,
        weight_decay=decay, adam_epsilon=epsilon, max_grad_norm=0.01,
    )  # fmt: skip
    train(attempt)
    ours = load_plain(policy)
    margins = []
    for row in rows:
        chosen = token_logps_alone(ours, row.prompt_token_ids, row.chosen.token_ids).mean()
        rejected = token_logps_alone(ours, row.prompt_token_ids, row.rejected.token_ids).mean()
        margins.append(chosen - rejected)
    (-torch.nn.functional.logsigmoid(10 * (torch.stack(margins) - 0.3))).mean().backward()
    norm = math.sqrt(sum((w.grad.double() ** 2).sum() for w in ours.parameters()))
    assert norm > 0.01
    after = weights_of(attempt.checkpoint)
    for name, weight in ours.named_parameters():
        gradient = weight.grad * 0.01 / norm
        kept = 1 - lr * decay if weight.dim() >= 2 else 1.0
        expected = weight * kept - lr * gradient / (gradient.abs() + epsilon)
        torch.testing.assert_close(after[name], expected.detach(), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_text_trains_the_text_of_a_policy_that_sees_and_leaves_the_rest(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    policy = make_gemma3(tmp_path / "policy", dtype=dtype)
    model, state = policy, None
    for number in (1, 2):
        attempt = make_attempt(
            tmp_path / f"round_{number}", pairs(4), model=model, initial=policy, reference=policy,
            loss={"kind": "dpo"}, lr=0.05, weight_decay=0.5, trainer_state=state, round=number,
            completions=write_completions(tmp_path / "completions.jsonl", groups(2)),
        )  # fmt: skip
        train(attempt)
        model, state = attempt.checkpoint, attempt.trainer_state
    start, end = weights_of(policy), weights_of(model)
    assert end.keys() == start.keys()
    sees = {name for name in start if "language_model" not in name}
    assert {name.split(".")[0] for name in sees} == {"vision_tower", "multi_modal_projector"}
    for name, weight in start.items():
        assert torch.equal(end[name], weight) == (name in sees), name
    moments = load_file(state / "optimizer.safetensors")
    assert len(moments) == 3 * len(start.keys() - sees)


def test_a_loss_that_is_not_finite_stops_the_round_before_the_step(
    policy: Path, tmp_path: Path
) -> None:
    model = load_plain(policy)
    with torch.no_grad():
        model.lm_head.weight[END] = float("nan")
    broken = tmp_path / "broken"
    model.save_pretrained(broken)
    AutoTokenizer.from_pretrained(policy).save_pretrained(broken)
    attempt = make_attempt(
        tmp_path / "attempt", pairs(4), model=broken, reference=policy, loss={"kind": "dpo"}
    )
    with pytest.raises(NonFiniteError, match=r"loss of step 1 is nan.*lower train\.lr"):
        train(attempt)
    assert not attempt.checkpoint.exists()
    assert not attempt.trainer_state.exists()


@pytest.mark.parametrize("canary", [None, ""])
def test_a_round_that_cannot_be_compared_with_its_sampler_says_so(
    canary: str | None, policy: Path, tmp_path: Path
) -> None:
    sample = AttemptDir(tmp_path / "sample")
    sample.path.mkdir()
    if canary is not None:
        sample.canary.write_text(canary)
    said = {}
    for kind in ("dpo", "bradley_terry"):
        attempt = make_attempt(
            tmp_path / kind, pairs(2), model=policy, reference=policy, loss={"kind": kind},
            completions=sample.completions,
        )  # fmt: skip
        train(attempt)
        said[kind] = [event.text for event in events(attempt) if isinstance(event, Warned)]
    assert said["bradley_terry"] == []
    (text,) = said["dpo"]
    assert text.startswith("whether round 1 was sampled by the policy to be trained cannot be told")
    assert str(sample.canary) in text


def test_samples_of_another_policy_are_refused_with_the_way_to_sample_anew(
    policy: Path, tmp_path: Path
) -> None:
    sample = AttemptDir(tmp_path / "sample")
    sample.path.mkdir()
    write_rows(sample.canary, [CanaryRow("p0.0", (5, 6), (7, 8), (-0.5, -0.5))])
    attempt = make_attempt(
        tmp_path / "attempt", pairs(2), model=policy, reference=policy, loss={"kind": "dpo"},
        completions=sample.completions,
    )  # fmt: skip
    with pytest.raises(OtherPolicyError, match="is not the one to be trained") as raised:
        train(attempt)
    assert "halos-tui retry test" in str(raised.value)
    assert "halos-tui set test sample.engine=transformers" in str(raised.value)
    assert str(sample.sampler) in str(raised.value)


def test_no_feedback_is_refused(policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path / "attempt", [], model=policy, loss={"kind": "dpo"})
    with pytest.raises(StageError, match="no feedback to train on"):
        train(attempt)


def test_a_loss_that_needs_a_reference_refuses_a_job_without(policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path / "attempt", pairs(4), model=policy, loss={"kind": "dpo"})
    with pytest.raises(StageError, match="dpo needs a reference"):
        train(attempt)


def test_wrong_number_of_processes_is_refused(policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", pairs(4), model=policy, reference=policy, loss={"kind": "dpo"},
        num_processes=2,
    )  # fmt: skip
    with pytest.raises(StageError, match=r"to run as 2 processes .* and runs as 1"):
        train(attempt)


def test_unscored_completions_are_counted_not_trained_on(policy: Path, tmp_path: Path) -> None:
    rows = groups(2)
    first = Completion("c0", "text", (9, END), "stop", None, "judge failed")
    spoilt = rows[0].__class__(
        **{**{f: getattr(rows[0], f) for f in rows[0].__struct_fields__},
           "completions": (first, *rows[0].completions[1:])}
    )  # fmt: skip
    attempt = make_attempt(
        tmp_path / "attempt", [spoilt, rows[1]], model=policy, reference=policy,
        loss={"kind": "grpo"},
    )  # fmt: skip
    assert train(attempt)["num_examples"] == 7
    assert warnings_of(attempt) == ["1 completions without a reward are not trained on"]


def test_a_batch_without_undesirable_completions_has_no_margin(
    policy: Path, tmp_path: Path
) -> None:
    rows = [row for row in unpaired(9) if row.is_desirable]
    found = one_step(tmp_path, rows, {"kind": "kto"}, model=policy, reference=policy)
    assert "implicit_reward_chosen" in found
    assert "implicit_reward_rejected" not in found
    assert "implicit_reward_margin" not in found


def test_completions_without_tokens_do_no_harm(policy: Path, tmp_path: Path) -> None:
    empty = Completion("c", "", (), "stop")
    rows = [
        UnpairedFeedback("p", MESSAGES, (5, 6), empty, True, 1.0),
        UnpairedFeedback("q", MESSAGES, (5, 6, 7), empty, True, 1.0),
    ]
    found = one_step(tmp_path, rows, {"kind": "kto"}, model=policy, reference=policy)
    assert found["loss"] == pytest.approx(0.5)
    assert found["grad_norm"] == 0.0


def test_checkpoint_is_a_plain_directory_with_the_runs_chat_template(
    policy: Path, tmp_path: Path
) -> None:
    template = tmp_path / "other.jinja"
    template.write_text("OTHER " + TEMPLATE)
    attempt = make_attempt(
        tmp_path / "attempt", pairs(4), model=policy, reference=policy, loss={"kind": "dpo"},
        policy={"chat_template": str(template), "dtype": "bfloat16"},
    )  # fmt: skip
    train(attempt)
    names = {path.name for path in attempt.checkpoint.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    tokenizer = AutoTokenizer.from_pretrained(attempt.checkpoint)
    assert tokenizer.chat_template == "OTHER " + TEMPLATE
    assert {w.dtype for w in weights_of(attempt.checkpoint).values()} == {torch.bfloat16}
    assert load_plain(attempt.checkpoint).config.eos_token_id == END


@pytest.mark.parametrize("module", ["weights", "checkpoint"])
def test_a_disk_that_takes_no_more_is_an_os_error_naming_the_file(
    module: str, policy: Path, tmp_path: Path
) -> None:
    """A file size limit stands in for a full disk: safetensors wraps both alike."""
    attempt = make_attempt(
        tmp_path / "attempt", pairs(4), model=policy, reference=policy, loss={"kind": "dpo"},
        keep_optimizer=module == "weights",
    )  # fmt: skip
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, hard))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            train(attempt)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    expected = {"weights": attempt.trainer_state, "checkpoint": attempt.checkpoint}[module]
    assert raised.value.filename.startswith(str(expected))


def test_a_policys_configuration_is_left_as_it_was(tmp_path: Path) -> None:
    """A pad token in it would freeze that token's embedding from the next round on."""
    policy = make_policy(tmp_path / "policy", pad_token_id=None)
    attempt = make_attempt(
        tmp_path / "attempt", pairs(4), model=policy, reference=policy, loss={"kind": "dpo"}
    )
    train(attempt)
    assert load_plain(attempt.checkpoint).config.pad_token_id is None


def test_gradient_checkpointing_changes_memory_not_results(policy: Path, tmp_path: Path) -> None:
    found = []
    for name, is_on in (("off", False), ("on", True)):
        attempt = make_attempt(
            tmp_path / name, pairs(6), model=policy, reference=policy, loss={"kind": "dpo"},
            num_epochs=3, gradient_checkpointing=is_on,
        )  # fmt: skip
        train(attempt)
        found.append((metrics(attempt), weights_of(attempt.checkpoint)))
    assert found[0][0][3]["loss"] == pytest.approx(found[1][0][3]["loss"], abs=1e-6)
    for name, weight in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], weight, atol=1e-6, rtol=0)

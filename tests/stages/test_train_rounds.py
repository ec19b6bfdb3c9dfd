"""What one round hands to the next: fp32 weights, AdamW's moments, adapters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from halos_backend.config.consequences import reset_reason
from halos_backend.config.schema import TrainSettings
from halos_backend.errors import StageError
from halos_backend.store.run_dir import AttemptDir
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.support.train_fixtures import (
    groups,
    load_plain,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    summary_of,
    token_logps_alone,
    train,
    unpaired,
    warnings_of,
    weights_of,
    write_completions,
)

ROWS = pairs(6)
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def bf16_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("bf16"), dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_completions(tmp_path_factory.mktemp("completions") / "rows.jsonl", groups(2))


def run_rounds(
    root: Path,
    initial: Path,
    completions: Path,
    *settings: dict[str, Any],
    rows: Any = ROWS,
    **shared: Any,
) -> list[AttemptDir]:
    """Rounds as the supervisor chains them: each trains the checkpoint of the one before."""
    attempts: list[AttemptDir] = []
    before: TrainSettings | None = None
    for number, own in enumerate(settings, start=1):
        last = attempts[-1] if attempts else None
        fields = {"loss": {"kind": "dpo"}, "reference": initial, "batch_size": 6, **shared, **own}
        about_moments = {"loss", "lora", "keep_optimizer"} & fields.keys()
        now = TrainSettings.model_validate({key: fields[key] for key in about_moments})
        attempt = make_attempt(
            root / f"round_{number}",
            rows,
            model=last.checkpoint if last else initial,
            initial=initial,
            completions=completions,
            trainer_state=last.trainer_state if last else None,
            reset_optimizer=reset_reason(before, now) if before else None,
            round=number,
            **fields,
        )
        attempts.append(attempt)
        train(attempt)
        before = now
    return attempts


def distance(a: Tensors, b: Tensors) -> float:
    return sum(float((a[n].double() - b[n].double()).square().sum()) for n in a) ** 0.5


def test_updates_below_the_checkpoints_resolution_accumulate_over_rounds(
    policy: Path, bf16_policy: Path, completions: Path, tmp_path: Path
) -> None:
    tiny = {"lr": 2e-7, "num_epochs": 4}
    low = run_rounds(tmp_path / "low", bf16_policy, completions, tiny, tiny)
    start = {name: weight.float() for name, weight in weights_of(bf16_policy).items()}
    masters = [load_file(attempt.trainer_state / "master.safetensors") for attempt in low]

    checkpoint = weights_of(low[0].checkpoint)
    assert {weight.dtype for weight in checkpoint.values()} == {torch.bfloat16}
    rounded = torch.cat([(checkpoint[n].float() == start[n]).flatten() for n in start])
    assert (
        rounded.double().mean() > 0.97
    )  # what a checkpoint alone would carry over: next to nothing
    assert {weight.dtype for weight in masters[0].values()} == {torch.float32}
    assert distance(masters[0], start) > 0
    assert distance(masters[1], start) > 1.8 * distance(masters[0], start)

    # the same two rounds with a policy kept in fp32 throughout
    full = run_rounds(
        tmp_path / "full", bf16_policy, completions, tiny, tiny, policy={"dtype": "float32"}
    )
    assert not (full[0].trainer_state / "master.safetensors").exists()
    expected = weights_of(full[1].checkpoint)
    assert all(torch.equal(masters[1][name], expected[name]) for name in expected)


def test_trainer_state_of_another_round_is_refused(
    bf16_policy: Path, completions: Path, tmp_path: Path
) -> None:
    first, second = run_rounds(tmp_path / "run", bf16_policy, completions, {"lr": 0.1}, {"lr": 0.1})
    attempt = make_attempt(
        tmp_path / "mixed", ROWS, model=first.checkpoint, initial=bf16_policy,
        reference=bf16_policy, loss={"kind": "dpo"}, completions=completions,
        trainer_state=second.trainer_state, round=2,
    )  # fmt: skip
    with pytest.raises(StageError, match="are not of one model"):
        train(attempt)


def plain_simpo_steps(path: Path, num_steps: int, *, restart_at: int | None = None) -> Tensors:
    """SimPO with torch's own AdamW, written down plainly."""
    policy = load_plain(path)

    def fresh() -> torch.optim.AdamW:
        return torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=0.0, foreach=False)

    optimizer = fresh()
    for number in range(num_steps):
        if number == restart_at:
            optimizer = fresh()
        margins = []
        for row in ROWS:
            chosen = token_logps_alone(policy, row.prompt_token_ids, row.chosen.token_ids)
            rejected = token_logps_alone(policy, row.prompt_token_ids, row.rejected.token_ids)
            margins.append(chosen.mean() - rejected.mean())
        loss = -torch.nn.functional.logsigmoid(2 * (torch.stack(margins) - 0.3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: weight.detach() for name, weight in policy.named_parameters()}


SIMPO: dict[str, Any] = {
    "loss": {"kind": "simpo", "beta": 2.0}, "reference": None, "weight_decay": 0.0,
    "max_grad_norm": 1e9,
}  # fmt: skip


def test_moments_are_carried_by_value(policy: Path, completions: Path, tmp_path: Path) -> None:
    two = {**SIMPO, "num_epochs": 2}
    first, second = run_rounds(tmp_path / "run", policy, completions, two, two)
    carried = plain_simpo_steps(policy, 4)
    restarted = plain_simpo_steps(policy, 4, restart_at=2)
    found = weights_of(second.checkpoint)
    assert distance(carried, restarted) > 1e-2
    assert distance(found, carried) < 1e-2 * distance(carried, restarted)
    moments = load_file(first.trainer_state / "optimizer.safetensors")
    assert {float(m) for n, m in moments.items() if n.startswith("step.")} == {2.0}
    assert summary_of(first)["optimizer"] == "new"
    assert summary_of(second)["optimizer"] == "kept"


def test_without_keep_optimizer_each_round_starts_anew(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    two = {**SIMPO, "num_epochs": 2, "keep_optimizer": False}
    first, second = run_rounds(tmp_path / "run", policy, completions, two, two)
    restarted = plain_simpo_steps(policy, 4, restart_at=2)
    found = weights_of(second.checkpoint)
    assert distance(found, restarted) < 1e-2 * distance(plain_simpo_steps(policy, 4), restarted)
    assert not (first.trainer_state / "optimizer.safetensors").exists()
    assert summary_of(second)["optimizer"] == "reset: train.keep_optimizer = false"
    assert warnings_of(second) == []


def test_a_changed_lr_is_the_lr_of_the_next_step(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    first, second = run_rounds(
        tmp_path / "run", policy, completions, {"lr": 1e-2}, {"lr": 1e-9, "num_epochs": 5}
    )
    assert [metrics(second)[step]["lr"] for step in range(1, 6)] == [1e-9] * 5
    moved = distance(weights_of(first.checkpoint), weights_of(policy))
    assert distance(weights_of(second.checkpoint), weights_of(first.checkpoint)) < 1e-5 * moved


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss": {"kind": "ipo"}}, "the loss changed from dpo to ipo"),
        ({"lora": {"r": 2}}, "the trainable parameters (train.lora) changed"),
        (
            {"lora": {"r": 2}, "keep_optimizer": True},
            "the trainable parameters (train.lora) changed",
        ),
    ],
)
def test_moments_of_another_loss_or_other_parameters_are_dropped_and_said_so(
    change: dict[str, Any], reason: str, policy: Path, completions: Path, tmp_path: Path
) -> None:
    _, second = run_rounds(tmp_path / "run", policy, completions, {}, change)
    assert summary_of(second)["optimizer"] == f"reset: {reason}"
    assert warnings_of(second) == [f"the optimizer starts anew: {reason}"]


def test_moments_that_were_not_saved_are_said_so(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    _, second = run_rounds(tmp_path / "run", policy, completions, {"keep_optimizer": False}, {})
    (warning,) = warnings_of(second)
    assert "the round before did not save AdamW's moments" in warning


def test_moments_are_carried_over_a_change_of_the_loss_on_demand(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    """The count of steps goes on: two of the first round, one of each of the others."""
    kept = {"keep_optimizer": True}
    ipo = {"loss": {"kind": "ipo"}}
    _, second, third = run_rounds(
        tmp_path / "run", policy, completions, {"num_epochs": 2}, {**ipo, **kept}, ipo
    )
    assert [summary_of(a)["optimizer"] for a in (second, third)] == ["kept", "kept"]
    moments = load_file(third.trainer_state / "optimizer.safetensors")
    assert {float(m) for n, m in moments.items() if n.startswith("step.")} == {4.0}


def test_moments_that_are_gone_are_no_reason_to_start_anew_without_a_word(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    (first,) = run_rounds(tmp_path / "run", policy, completions, {})
    (first.trainer_state / "optimizer.safetensors").unlink()
    attempt = make_attempt(
        tmp_path / "second", ROWS, model=first.checkpoint, initial=policy, reference=policy,
        loss={"kind": "dpo"}, completions=completions, trainer_state=first.trainer_state, round=2,
    )  # fmt: skip
    with pytest.raises(StageError, match=r"no optimizer\.safetensors.*keep_optimizer = false"):
        train(attempt)


def test_a_change_is_that_of_its_round_from_the_first_step_on_and_is_logged(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    """Warm-up over the first half of each round of four steps, then a line to 0; steps count at
    their middles: factors 1/4, 3/4, 3/4, 1/4."""
    shape = {
        "schedule": "linear", "warmup_frac": 0.5, "schedule_scope": "round", "num_epochs": 4,
    }  # fmt: skip
    rounds = run_rounds(
        tmp_path / "run",
        policy,
        completions,
        {**shape, "lr": 1e-2, "loss": {"kind": "dpo", "beta": 0.1}},
        {**shape, "lr": 4e-4, "loss": {"kind": "dpo", "beta": 0.3}},
        {**shape, "lr": 4e-4, "loss": {"kind": "ipo", "tau": 0.7}},
        {**shape, "lr": 8e-4, "loss": {"kind": "slic", "delta": 2.0}},
    )
    found = [[metrics(attempt)[step]["lr"] for step in range(1, 5)] for attempt in rounds]
    expected = [[peak * f for f in (0.25, 0.75, 0.75, 0.25)] for peak in (1e-2, 4e-4, 4e-4, 8e-4)]
    assert found == [pytest.approx(lrs) for lrs in expected]
    strengths = [{"beta": 0.1}, {"beta": 0.3}, {"tau": 0.7}, {"delta": 2.0}]
    for attempt, strength in zip(rounds, strengths, strict=True):
        logged = metrics(attempt)[1]
        assert {k: logged[k] for k in ("beta", "tau", "delta") if k in logged} == strength
    optimizers = [summary_of(attempt)["optimizer"] for attempt in rounds]
    assert optimizers == [
        "new",
        "kept",
        "reset: the loss changed from dpo to ipo",
        "reset: the loss changed from ipo to slic",
    ]


def test_fp32_weights_are_carried_over_a_change_of_the_loss(
    bf16_policy: Path, completions: Path, tmp_path: Path
) -> None:
    quiet = {"loss": {"kind": "ipo"}, "lr": 1e-12}
    first, second = run_rounds(tmp_path / "run", bf16_policy, completions, {"lr": 1e-5}, quiet)
    masters = [load_file(a.trainer_state / "master.safetensors") for a in (first, second)]
    start = {name: weight.float() for name, weight in weights_of(bf16_policy).items()}
    assert distance(masters[0], start) > 0
    assert distance(masters[1], masters[0]) < 1e-3 * distance(masters[0], start)


LORA: dict[str, Any] = {"lora": {"r": 4, "alpha": 8.0}, "lr": 1e-2, "num_epochs": 3}
QUERY = "model.layers.0.self_attn.q_proj"


def low_rank_update(attempt: AttemptDir, module: str) -> torch.Tensor:
    """alpha / r * B A, from the adapter on disk."""
    adapter = load_file(attempt.trainer_state / "adapter.safetensors")
    a, b = (adapter[f"{module}.lora_{x}.default.weight"] for x in "AB")
    assert a.dtype == b.dtype == torch.float32
    assert a.shape[0] == 4
    return 8.0 / 4 * b @ a


def test_lora_checkpoints_are_plain_models_with_the_adapters_merged(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    first, second = run_rounds(tmp_path / "run", policy, completions, LORA, LORA)
    start = weights_of(policy)
    for attempt in (first, second):
        merged = weights_of(attempt.checkpoint)
        assert merged.keys() == start.keys()
        update = low_rank_update(attempt, QUERY)
        assert update.abs().max() > 1e-3
        torch.testing.assert_close(
            merged[f"{QUERY}.weight"], start[f"{QUERY}.weight"] + update, atol=1e-6, rtol=0
        )
        for frozen in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"):
            assert torch.equal(merged[frozen], start[frozen])
    AutoModelForCausalLM.from_pretrained(first.checkpoint)
    assert not (first.trainer_state / "base.safetensors").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_peft_reads_the_adapters_that_samplers_are_handed(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    _, attempt = run_rounds(tmp_path / "run", policy, completions, LORA, LORA)
    assert sorted(file.name for file in attempt.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    adapted = PeftModel.from_pretrained(load_plain(policy), attempt.adapter)
    ids = torch.tensor([[1, 5, 9, 4]])
    with torch.no_grad():
        found, expected = adapted(ids).logits, load_plain(attempt.checkpoint)(ids).logits
        start = load_plain(policy)(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (expected - start).abs().max() > 1e-3


def test_adapters_that_stand_on_other_weights_are_not_handed_over(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    whole, adapted = run_rounds(tmp_path / "run", policy, completions, {"lr": 1e-3}, LORA)
    assert (adapted.trainer_state / "base.safetensors").exists()
    assert not adapted.adapter.exists()
    assert not whole.adapter.exists()


def test_lora_goes_on_from_its_adapters_and_moments(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    """Two rounds of three steps on the same batch are one round of six."""
    _, second = run_rounds(tmp_path / "two", policy, completions, LORA, LORA, batch_size=6)
    (whole,) = run_rounds(tmp_path / "one", policy, completions, {**LORA, "num_epochs": 6})
    assert summary_of(second)["optimizer"] == "kept"
    start = weights_of(policy)
    found, expected = weights_of(second.checkpoint), weights_of(whole.checkpoint)
    assert distance(found, expected) < 1e-3 * distance(expected, start)


def test_lora_adapters_stay_fp32_under_a_low_checkpoint_dtype(
    bf16_policy: Path, completions: Path, tmp_path: Path
) -> None:
    tiny = {**LORA, "lr": 1e-6}
    first, second = run_rounds(tmp_path / "run", bf16_policy, completions, tiny, tiny)
    assert {w.dtype for w in weights_of(second.checkpoint).values()} == {torch.bfloat16}
    updates = [low_rank_update(a, QUERY) for a in (first, second)]
    assert updates[1].norm() > 1.5 * updates[0].norm() > 0


def test_lora_begun_after_full_training_stands_on_what_was_trained_even_once_pruned(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    full, second = run_rounds(tmp_path / "run", policy, completions, {"lr": 1e-2}, LORA)
    base = weights_of(full.checkpoint)
    assert distance(base, weights_of(policy)) > 0.1
    shutil.rmtree(full.path)
    second_update = low_rank_update(second, QUERY)
    third = make_attempt(
        tmp_path / "third", ROWS, model=second.checkpoint, initial=policy, reference=policy,
        completions=completions, trainer_state=second.trainer_state, round=3,
        loss={"kind": "dpo"}, **LORA,
    )  # fmt: skip
    train(third)
    expected = base[f"{QUERY}.weight"] + low_rank_update(third, QUERY)
    found = weights_of(third.checkpoint)[f"{QUERY}.weight"]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert low_rank_update(third, QUERY).norm() > second_update.norm()


FULL: dict[str, Any] = {"lr": 1e-5}
LOW_LORA: dict[str, Any] = {"lora": {"r": 4, "alpha": 8.0}, "lr": 1e-4, "num_epochs": 3}
OTHER_LORA: dict[str, Any] = {"lora": {"r": 2, "alpha": 8.0}, "lr": 1e-4}


@pytest.mark.parametrize(
    ("first", "second"), [(FULL, LOW_LORA), (LOW_LORA, FULL), (LOW_LORA, OTHER_LORA)]
)
def test_fp32_weights_are_carried_over_a_change_of_what_is_trained(
    first: dict[str, Any],
    second: dict[str, Any],
    bf16_policy: Path,
    completions: Path,
    tmp_path: Path,
) -> None:
    """A second round that hardly moves leaves what the first one trained, below bf16 too."""
    quiet = {**second, "lr": 1e-12, "num_epochs": 1}
    before, after = run_rounds(tmp_path / "run", bf16_policy, completions, first, quiet)
    name = f"{QUERY}.weight"
    start = weights_of(bf16_policy)[name].float()
    trained = trained_fp32(before, start, name)
    rounding = (trained - weights_of(before.checkpoint)[name].float()).norm()
    assert rounding > 0
    assert (trained_fp32(after, start, name) - trained).norm() < 1e-3 * rounding


def trained_fp32(attempt: AttemptDir, start: torch.Tensor, name: str) -> torch.Tensor:
    """One weight as the trainer's state has it: whole, or under an adapter."""
    state = attempt.trainer_state
    if (state / "master.safetensors").exists():
        return load_file(state / "master.safetensors")[name]
    if (state / "base.safetensors").exists():
        start = load_file(state / "base.safetensors")[name]
    adapter = load_file(state / "adapter.safetensors")
    a, b = (adapter[name.replace("weight", f"lora_{x}.default.weight")] for x in "AB")
    return start + 8.0 / a.shape[0] * b @ a


def test_lora_with_dropout_trains_and_its_reference_log_ratios_start_at_zero(
    policy: Path, completions: Path, tmp_path: Path
) -> None:
    settings = {**LORA, "lora": {"r": 4, "alpha": 8.0, "dropout": 0.3}, "num_epochs": 6}
    runs = [run_rounds(tmp_path / n, policy, completions, settings)[0] for n in ("one", "two")]
    logged = metrics(runs[0])
    assert logged[1]["implicit_reward_margin"] == pytest.approx(0.0, abs=1e-6)
    assert logged[6]["loss"] < logged[1]["loss"] - 0.01
    one, two = (weights_of(run.checkpoint) for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    (still,) = run_rounds(tmp_path / "still", policy, completions, {**LORA, "num_epochs": 6})
    assert distance(weights_of(still.checkpoint), one) > 1e-3  # dropout did something


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        ({"kind": "dpo", "humanline": {"sync_every": 2}}, pairs(6)),
        ({"kind": "kto", "humanline": {"sync_every": 2}}, unpaired(6)),
    ],
)
def test_humanline_follows_lora_policies_too(
    loss: dict[str, Any], rows: Any, policy: Path, completions: Path, tmp_path: Path
) -> None:
    (attempt,) = run_rounds(
        tmp_path / "run", policy, completions, {**LORA, "loss": loss, "num_epochs": 6}, rows=rows
    )
    rewards = [metrics(attempt)[step]["implicit_reward_margin"] for step in range(1, 7)]
    assert [abs(reward) < 1e-6 for reward in rewards] == [True, *[False] * 5]  # never with it


def test_lora_reward_model_is_saved_with_its_head(policy: Path, tmp_path: Path) -> None:
    attempt = make_attempt(
        tmp_path / "attempt", ROWS, model=policy, loss={"kind": "bradley_terry"}, batch_size=6,
        lr=1e-2, num_epochs=8, lora={"r": 4, "alpha": 8.0},
    )  # fmt: skip
    train(attempt)
    judge = AutoModelForSequenceClassification.from_pretrained(attempt.checkpoint).eval()
    margins = []
    for row in ROWS:
        ids = [[*row.prompt_token_ids, *c.token_ids] for c in (row.chosen, row.rejected)]
        chosen, rejected = (judge(input_ids=torch.tensor([i])).logits.item() for i in ids)
        margins.append(chosen - rejected)
    logged = metrics(attempt)
    assert logged[8]["loss"] < 0.5 * logged[1]["loss"]
    assert sum(margin > 0 for margin in margins) >= 5

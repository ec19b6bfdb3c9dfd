"""Humanline's reference lags behind the policy: whole rounds against a trainer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from halos_backend.config.losses import KTO
from halos_backend.stages.train.batches import plan_steps
from halos_backend.stages.train.examples import UnpairedExample, make_examples
from halos_backend.store.prompt_order import derived_seed

from tests.support.plain_trainer import PlainTrainer, dpo, grpo, kto
from tests.support.train_fixtures import (
    groups,
    make_attempt,
    make_policy,
    metrics,
    pairs,
    train,
    unpaired,
)

NUM_STEPS = 6
BETA = 0.1
LR = 3e-4
WIDE, NARROW = (-1.0, 1.5), (-0.05, 0.05)
ROWS: dict[str, Any] = {"dpo": pairs(6), "kto": unpaired(7), "grpo": groups(2)}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"))


def text(row: Any, completion: Any) -> tuple[Any, Any]:
    return row.prompt_token_ids, completion.token_ids


def batches(kind: str) -> list[Any]:
    """Each step has all rows; only for KTO's mismatched completions their order matters."""
    rows = ROWS[kind]
    if kind == "dpo":
        return [dpo([(text(r, r.chosen), text(r, r.rejected)) for r in rows])] * NUM_STEPS
    if kind == "grpo":
        scored = [[(text(row, c), c.reward) for c in row.completions] for row in rows]
        return [grpo(scored, 0.2)] * NUM_STEPS
    made = []
    steps = plan_steps(
        make_examples(rows, KTO(kind="kto")).examples,
        batch_size=64, num_epochs=NUM_STEPS, seed=derived_seed(7, 1),
    )  # fmt: skip
    for step in steps:
        examples = [e for e in step.examples if isinstance(e, UnpairedExample)]
        every = [(e.sequence.prompt, e.sequence.completion) for e in examples]
        good = [t for t, e in zip(every, examples, strict=True) if e.is_desirable]
        bad = [t for t, e in zip(every, examples, strict=True) if not e.is_desirable]
        after = [*every[1:], every[0]]
        made.append(kto(good, bad, [(a[0], b[1]) for a, b in zip(every, after, strict=True)]))
    return made


def round_of(
    directory: Path, policy: Path, kind: str, clamp: tuple[float, float], sync_every: int
) -> list[dict[str, float]]:
    humanline = {"log_epsilon_p": clamp[0], "log_epsilon_r": clamp[1], "sync_every": sync_every}
    attempt = make_attempt(
        directory, ROWS[kind], model=policy, reference=policy, num_epochs=NUM_STEPS, batch_size=64,
        loss={"kind": kind, "beta": BETA, "humanline": humanline}, lr=LR, weight_decay=0.0,
    )  # fmt: skip
    train(attempt)
    return [metrics(attempt)[step] for step in range(1, NUM_STEPS + 1)]


@pytest.mark.parametrize(("sync_every", "clamp"), [(1, WIDE), (2, NARROW)])
@pytest.mark.parametrize("kind", list(ROWS))
def test_six_steps_equal_a_trainer_that_syncs_before_the_step(
    kind: str, sync_every: int, clamp: tuple[float, float], policy: Path, tmp_path: Path
) -> None:
    plain = PlainTrainer(policy, lr=LR, clamp=clamp, sync_every=sync_every, beta=BETA)
    expected = [plain.step(outcome_of) for outcome_of in batches(kind)]
    found = round_of(tmp_path / "attempt", policy, kind, clamp, sync_every)
    losses, margins, inside = zip(*expected, strict=True)
    assert [f["loss"] for f in found] == pytest.approx(losses, abs=1e-6)
    assert [f["unclamped_frac"] for f in found] == pytest.approx(inside, abs=1e-6)
    if kind != "grpo":
        assert [f["implicit_reward_margin"] for f in found] == pytest.approx(margins, abs=1e-6)
    assert min(abs(loss - losses[0]) for loss in losses[1:]) > 1e-3  # it is never with the policy
    assert (inside[-1] < 0.9) == (clamp == NARROW)

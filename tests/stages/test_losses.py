"""Losses against values worked out in plain Python floats, and at the edges where losses break.

The `expected_*` functions are the papers' formulas, one float at a time, without torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from halos_backend.stages.train.losses.advantages import group_advantages
from halos_backend.stages.train.losses.apo import apo_down_loss, apo_zero_loss
from halos_backend.stages.train.losses.bco import bco_loss
from halos_backend.stages.train.losses.bradley_terry import bradley_terry_loss
from halos_backend.stages.train.losses.cdpo import cdpo_loss
from halos_backend.stages.train.losses.csft import control_prefix
from halos_backend.stages.train.losses.dpo import dpo_loss
from halos_backend.stages.train.losses.exo import exo_loss
from halos_backend.stages.train.losses.grpo import grpo_token_loss
from halos_backend.stages.train.losses.ipo import ipo_loss
from halos_backend.stages.train.losses.kl import categorical_kl
from halos_backend.stages.train.losses.kto import kto_kl, kto_loss
from halos_backend.stages.train.losses.logratios import (
    mean_over_completion,
    sum_over_completion,
    token_logratios,
    unclamped_frac,
)
from halos_backend.stages.train.losses.robust import robust_loss
from halos_backend.stages.train.losses.sft import sft_token_loss
from halos_backend.stages.train.losses.simpo import simpo_loss
from halos_backend.stages.train.losses.slic import slic_loss
from halos_backend.stages.train.losses.sppo import sppo_loss
from torch import Tensor

Rows = list[list[float]]

SEEDS = [0, 1, 2, 3, 4]
CLAMPS = [None, (-1.0, 1.5), (-0.2, 0.1)]
OUTSIDE = 1e30
"""Stands in every place outside a mask: any leak of it is seen at once."""


@dataclass(frozen=True)
class Batch:
    """Ragged log-probabilities at their true lengths; the tensors are padded with OUTSIDE."""

    policy: Rows
    old: Rows
    reference: Rows
    num_padded: int

    def tensor(self, rows: Rows, sign: float = 1.0) -> Tensor:
        padded = [row + [sign * OUTSIDE] * (self.num_padded - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.float64)

    @property
    def policy_tensor(self) -> Tensor:
        return self.tensor(self.policy)

    @property
    def old_tensor(self) -> Tensor:
        return self.tensor(self.old, sign=-1.0)

    @property
    def reference_tensor(self) -> Tensor:
        return self.tensor(self.reference, sign=-1.0)

    @property
    def mask(self) -> Tensor:
        columns = range(self.num_padded)
        return torch.tensor([[column < len(row) for column in columns] for row in self.policy])


def random_batch(seed: int, lengths: Sequence[int] | None = None) -> Batch:
    """Completions of random lengths, among them an empty one and one of a single token."""
    rng = random.Random(seed)
    lengths = lengths or [0, 1, *(rng.randint(2, 9) for _ in range(6))]
    policy = [[-rng.expovariate(0.7) for _ in range(length)] for length in lengths]
    old = [[logp + rng.gauss(0, 0.3) for logp in row] for row in policy]
    reference = [[logp + rng.gauss(0, 1.0) for logp in row] for row in policy]
    return Batch(policy, old, reference, num_padded=max(*lengths, 1) + 2)


def random_values(seed: int, count: int = 12, spread: float = 5.0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(0, spread) for _ in range(count)]


def float64(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def assert_close(actual: Tensor, expected: Sequence[float] | Rows, tolerance: float = 1e-6) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    assert actual.shape == wanted.shape
    assert torch.allclose(actual.double(), wanted, rtol=tolerance, atol=tolerance)


def gradient_of(value: Tensor, leaf: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return gradient


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def clamped(x: float, clamp: tuple[float, float] | None) -> float:
    return x if clamp is None else min(max(x, clamp[0]), clamp[1])


def differences(
    left: Rows, right: Rows, clamp: tuple[float, float] | None = None
) -> list[list[float]]:
    return [
        [clamped(a - b, clamp) for a, b in zip(row_left, row_right, strict=True)]
        for row_left, row_right in zip(left, right, strict=True)
    ]


def padded(rows: Rows, length: int) -> Rows:
    return [row + [0.0] * (length - len(row)) for row in rows]


# -- log-ratios ----------------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("seed", SEEDS)
def test_logratios_their_sums_and_means_agree_with_python_floats(
    seed: int, clamp: tuple[float, float] | None
) -> None:
    batch = random_batch(seed)
    logratios = token_logratios(
        policy_token_logps=batch.policy_tensor,
        reference_token_logps=batch.reference_tensor,
        completion_mask=batch.mask,
        clamp=clamp,
    )
    expected = differences(batch.policy, batch.reference, clamp)
    assert_close(logratios, padded(expected, batch.num_padded))
    assert_close(sum_over_completion(logratios, batch.mask), [sum(row) for row in expected])
    assert_close(
        mean_over_completion(logratios, batch.mask),
        [sum(row) / len(row) if row else 0.0 for row in expected],
    )


def test_sums_and_means_ignore_what_stands_outside_the_mask() -> None:
    batch = random_batch(7)
    sums = [sum(row) for row in batch.policy]
    assert_close(sum_over_completion(batch.policy_tensor, batch.mask), sums)
    means = [sum(row) / len(row) if row else 0.0 for row in batch.policy]
    assert_close(mean_over_completion(batch.policy_tensor, batch.mask), means)


def test_a_float_mask_and_a_bool_mask_give_the_same() -> None:
    batch = random_batch(3)
    by_kind = [
        token_logratios(
            policy_token_logps=batch.policy_tensor,
            reference_token_logps=batch.reference_tensor,
            completion_mask=mask,
        )
        for mask in (batch.mask, batch.mask.double(), batch.mask.float())
    ]
    assert torch.equal(by_kind[0], by_kind[1])
    assert torch.equal(by_kind[0], by_kind[2])


def test_a_wide_clamp_changes_nothing_and_a_narrow_one_binds_every_token() -> None:
    policy, reference = torch.tensor([[-1.0, -4.0]]), torch.tensor([[-3.0, -1.0]])
    mask = torch.ones(1, 2)

    def clamp_to(clamp: tuple[float, float]) -> list[float]:
        return token_logratios(
            policy_token_logps=policy,
            reference_token_logps=reference,
            completion_mask=mask,
            clamp=clamp,
        )[0].tolist()

    assert clamp_to((-10.0, 10.0)) == [2.0, -3.0]
    assert clamp_to((-1.0, 1.5)) == [1.5, -1.0]


def test_no_gradient_passes_through_clamped_tokens() -> None:
    policy = torch.tensor([[2.0, 0.5, -3.0]], requires_grad=True)
    logratios = token_logratios(
        policy_token_logps=policy,
        reference_token_logps=torch.zeros(1, 3),
        completion_mask=torch.ones(1, 3),
        clamp=(-1.0, 1.5),
    )
    assert gradient_of(logratios, policy).tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("seed", SEEDS)
def test_unclamped_frac_counts_completion_tokens_strictly_inside(seed: int) -> None:
    batch = random_batch(seed)
    low, high = -0.5, 0.7
    tokens = [x for row in differences(batch.policy, batch.reference) for x in row]
    expected = sum(low < x < high for x in tokens) / len(tokens)
    actual = unclamped_frac(
        policy_token_logps=batch.policy_tensor,
        reference_token_logps=batch.reference_tensor,
        completion_mask=batch.mask,
        clamp=(low, high),
    )
    assert actual.item() == pytest.approx(expected, abs=1e-12)


def test_unclamped_frac_counts_agreement_as_unclamped_and_the_bounds_as_clamped() -> None:
    def frac(logratios: list[float], mask: list[int]) -> float:
        return unclamped_frac(
            policy_token_logps=torch.tensor([logratios]),
            reference_token_logps=torch.zeros(1, len(logratios)),
            completion_mask=torch.tensor([mask]),
            clamp=(-1.0, 1.5),
        ).item()

    assert frac([0.0, 0.0], [1, 1]) == 1.0
    assert frac([-1.0, 1.5, 0.0, 9.0], [1, 1, 1, 0]) == pytest.approx(1 / 3)
    assert frac([0.0, 0.0], [0, 0]) == 0.0


# -- pairs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_loss_agrees_with_python_floats(seed: int) -> None:
    chosen, rejected, beta = random_values(seed), random_values(seed + 100), 0.3
    actual = dpo_loss(
        chosen_logratios=float64(chosen), rejected_logratios=float64(rejected), beta=beta
    )
    expected = [-math.log(sigmoid(beta * (c - r))) for c, r in zip(chosen, rejected, strict=True)]
    assert_close(actual, expected)


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_from_token_logps_to_loss_agrees_with_python_floats(
    seed: int, clamp: tuple[float, float] | None
) -> None:
    sides = [random_batch(seed), random_batch(seed + 50)]
    sums = [
        sum_over_completion(
            token_logratios(
                policy_token_logps=side.policy_tensor,
                reference_token_logps=side.reference_tensor,
                completion_mask=side.mask,
                clamp=clamp,
            ),
            side.mask,
        )
        for side in sides
    ]
    chosen, rejected = (
        [sum(row) for row in differences(side.policy, side.reference, clamp)] for side in sides
    )
    actual = dpo_loss(chosen_logratios=sums[0], rejected_logratios=sums[1], beta=0.1)
    expected = [-math.log(sigmoid(0.1 * (c - r))) for c, r in zip(chosen, rejected, strict=True)]
    assert_close(actual, expected)


def test_dpo_loss_is_log_two_when_policy_equals_reference() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    actual = dpo_loss(chosen_logratios=zeros, rejected_logratios=zeros, beta=0.1)
    assert_close(actual, [math.log(2)] * 3, tolerance=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2, 0.49])
def test_cdpo_loss_agrees_with_python_floats(seed: int, label_smoothing: float) -> None:
    chosen, rejected, beta = random_values(seed), random_values(seed + 100), 0.2
    actual = cdpo_loss(
        chosen_logratios=float64(chosen),
        rejected_logratios=float64(rejected),
        beta=beta,
        label_smoothing=label_smoothing,
    )
    expected = []
    for c, r in zip(chosen, rejected, strict=True):
        p = sigmoid(beta * (c - r))
        expected.append(-(1 - label_smoothing) * math.log(p) - label_smoothing * math.log(1 - p))
    assert_close(actual, expected)


def test_cdpo_loss_is_log_two_when_policy_equals_reference() -> None:
    zeros = torch.zeros(2, dtype=torch.float64)
    actual = cdpo_loss(
        chosen_logratios=zeros, rejected_logratios=zeros, beta=0.1, label_smoothing=0.2
    )
    assert_close(actual, [math.log(2)] * 2, tolerance=1e-12)


def robust(c: float, r: float) -> float:
    p = sigmoid(0.2 * (c - r))
    return (-(1 - 0.3) * math.log(p) + 0.3 * math.log(1 - p)) / (1 - 2 * 0.3)


def exo(c: float, r: float) -> float:
    p = sigmoid(0.2 * (c - r))
    return p * math.log(p / (1 - 0.01)) + (1 - p) * math.log((1 - p) / 0.01)


def apo_zero(c: float, r: float) -> float:
    return (1 - sigmoid(0.2 * c)) + sigmoid(0.2 * r)


def apo_down(c: float, r: float) -> float:
    return sigmoid(0.2 * c) + (1 - sigmoid(0.2 * (c - r)))


def sppo(c: float, r: float) -> float:
    return (c - 5.0 * (1 - 0.5)) ** 2 + (r - 5.0 * (0 - 0.5)) ** 2


def bco(c: float, r: float) -> float:
    return -math.log(sigmoid(0.2 * c - 0.7)) - math.log(1 - sigmoid(0.2 * r - 0.7))


PAIR_LOSSES: dict[Callable[[float, float], float], Callable[..., Tensor]] = {
    robust: partial(robust_loss, beta=0.2, label_smoothing=0.3),
    exo: partial(exo_loss, beta=0.2, label_smoothing=0.01),
    apo_zero: partial(apo_zero_loss, beta=0.2),
    apo_down: partial(apo_down_loss, beta=0.2),
    sppo: partial(sppo_loss, beta=0.2),
    bco: partial(bco_loss, beta=0.2, shift=torch.tensor(0.7, dtype=torch.float64)),
}


@pytest.mark.parametrize("formula", PAIR_LOSSES, ids=lambda formula: formula.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_losses_of_pairs_agree_with_python_floats(
    formula: Callable[[float, float], float], seed: int
) -> None:
    chosen, rejected = random_values(seed), random_values(seed + 100)
    actual = PAIR_LOSSES[formula](
        chosen_logratios=float64(chosen), rejected_logratios=float64(rejected)
    )
    expected = [formula(c, r) for c, r in zip(chosen, rejected, strict=True)]
    assert_close(actual, expected, tolerance=1e-12)


def test_robust_dpo_on_flipped_labels_is_dpo_on_right_ones_in_expectation() -> None:
    c, r = float64(random_values(1)), float64(random_values(2))
    right, flipped = (
        robust_loss(chosen_logratios=a, rejected_logratios=b, beta=0.3, label_smoothing=0.2)
        for a, b in ((c, r), (r, c))
    )
    clean = dpo_loss(chosen_logratios=c, rejected_logratios=r, beta=0.3)
    torch.testing.assert_close(0.8 * right + 0.2 * flipped, clean, rtol=0, atol=1e-14)


def test_exo_is_zero_where_the_policy_prefers_as_the_label_says() -> None:
    margin = float64([math.log(0.9 / 0.1) / 0.5])
    actual = exo_loss(
        chosen_logratios=margin, rejected_logratios=0 * margin, beta=0.5, label_smoothing=0.1
    )
    assert_close(actual, [0.0], tolerance=1e-14)


def test_apo_says_where_each_completion_goes() -> None:
    """Signs of the gradients by the chosen and the rejected log-ratio, where both are 0."""

    def signs(loss: Callable[..., Tensor]) -> list[float]:
        leaf = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        value = loss(chosen_logratios=leaf[:1], rejected_logratios=leaf[1:], beta=0.4)
        return gradient_of(value, leaf).tolist()

    assert signs(apo_zero_loss) == pytest.approx([-0.1, 0.1])
    # s(b c) + s(-b (c - r)): b/4 - b/4 = 0 for the chosen one, b/4 for the rejected one
    assert signs(apo_down_loss) == pytest.approx([0.0, 0.1])


def test_sppo_is_zero_at_its_targets() -> None:
    found = sppo_loss(chosen_logratios=float64([5.0]), rejected_logratios=float64([-5.0]), beta=0.1)
    assert found.tolist() == [0.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_ipo_from_token_logps_to_loss_agrees_with_python_floats(seed: int) -> None:
    tau = 0.1
    sides = [random_batch(seed), random_batch(seed + 50)]
    means = [
        mean_over_completion(
            token_logratios(
                policy_token_logps=side.policy_tensor,
                reference_token_logps=side.reference_tensor,
                completion_mask=side.mask,
            ),
            side.mask,
        )
        for side in sides
    ]
    chosen, rejected = (
        [sum(row) / max(len(row), 1) for row in differences(side.policy, side.reference)]
        for side in sides
    )
    actual = ipo_loss(chosen_mean_logratios=means[0], rejected_mean_logratios=means[1], tau=tau)
    expected = [(c - r - 1 / (2 * tau)) ** 2 for c, r in zip(chosen, rejected, strict=True)]
    assert_close(actual, expected)


def test_ipo_loss_is_the_squared_target_when_policy_equals_reference() -> None:
    logps, mask = torch.full((2, 3), -1.5, dtype=torch.float64), torch.ones(2, 3)
    means = mean_over_completion(
        token_logratios(
            policy_token_logps=logps, reference_token_logps=logps, completion_mask=mask
        ),
        mask,
    )
    actual = ipo_loss(chosen_mean_logratios=means, rejected_mean_logratios=means, tau=0.25)
    assert_close(actual, [4.0, 4.0], tolerance=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_simpo_loss_agrees_with_python_floats(seed: int) -> None:
    sides = [random_batch(seed), random_batch(seed + 50)]
    chosen, rejected = ([sum(row) / max(len(row), 1) for row in side.policy] for side in sides)
    actual = simpo_loss(
        chosen_mean_logps=mean_over_completion(sides[0].policy_tensor, sides[0].mask),
        rejected_mean_logps=mean_over_completion(sides[1].policy_tensor, sides[1].mask),
        beta=2.5,
        gamma_beta_ratio=0.3,
    )
    # The paper's form: beta times each mean, minus gamma = 2.5 * 0.3.
    expected = [
        -math.log(sigmoid(2.5 * c - 2.5 * r - 0.75)) for c, r in zip(chosen, rejected, strict=True)
    ]
    assert_close(actual, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_slic_loss_agrees_with_python_floats(seed: int) -> None:
    sides = [random_batch(seed), random_batch(seed + 50)]
    chosen, rejected = ([sum(row) for row in side.policy] for side in sides)
    actual = slic_loss(
        chosen_logps=sum_over_completion(sides[0].policy_tensor, sides[0].mask),
        rejected_logps=sum_over_completion(sides[1].policy_tensor, sides[1].mask),
        delta=1.0,
        lambda_coef=0.1,
    )
    expected = [
        (1.0 - c + r if 1.0 - c + r > 0 else 0.0) + 0.1 * -c
        for c, r in zip(chosen, rejected, strict=True)
    ]
    assert_close(actual, expected)


def test_slic_loss_beyond_its_margin_is_only_the_chosen_nll() -> None:
    actual = slic_loss(
        chosen_logps=float64([-2.0]), rejected_logps=float64([-9.0]), delta=1.0, lambda_coef=0.5
    )
    assert_close(actual, [1.0], tolerance=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_bradley_terry_loss_agrees_with_python_floats(seed: int) -> None:
    chosen, rejected = random_values(seed), random_values(seed + 100)
    actual = bradley_terry_loss(chosen_rewards=float64(chosen), rejected_rewards=float64(rejected))
    expected = [
        -math.log(math.exp(c) / (math.exp(c) + math.exp(r)))
        for c, r in zip(chosen, rejected, strict=True)
    ]
    assert_close(actual, expected)


def test_swapping_chosen_and_rejected_changes_a_pair_loss_by_its_margin() -> None:
    chosen, rejected = float64(random_values(1)), float64(random_values(2))
    forward = dpo_loss(chosen_logratios=chosen, rejected_logratios=rejected, beta=1.0)
    swapped = dpo_loss(chosen_logratios=rejected, rejected_logratios=chosen, beta=1.0)
    assert torch.allclose(swapped - forward, chosen - rejected, atol=1e-9)


# -- KTO -----------------------------------------------------------------------------------------


def expected_kto(
    logratios: list[float], is_desirable: list[bool], kl: float, beta: float, weights: list[float]
) -> list[float]:
    losses = []
    for logratio, desirable in zip(logratios, is_desirable, strict=True):
        if desirable:
            losses.append(weights[0] * (1 - sigmoid(beta * (logratio - kl))))
        else:
            losses.append(weights[1] * (1 - sigmoid(beta * (kl - logratio))))
    return losses


@pytest.mark.parametrize("labels", ["mixed", "all desirable", "all undesirable"])
@pytest.mark.parametrize("seed", SEEDS)
def test_kto_loss_agrees_with_python_floats(seed: int, labels: str) -> None:
    logratios, rng = random_values(seed), random.Random(seed)
    by_labels: dict[str, Callable[[], bool]] = {
        "mixed": lambda: rng.random() < 0.5,
        "all desirable": lambda: True,
        "all undesirable": lambda: False,
    }
    is_desirable = [by_labels[labels]() for _ in logratios]
    actual = kto_loss(
        logratios=float64(logratios),
        is_desirable=torch.tensor(is_desirable),
        kl=torch.tensor(0.8, dtype=torch.float64),
        beta=0.2,
        desirable_weight=1.3,
        undesirable_weight=0.7,
    )
    assert_close(actual, expected_kto(logratios, is_desirable, 0.8, 0.2, [1.3, 0.7]))


def test_kto_loss_is_half_its_weight_when_policy_equals_reference() -> None:
    actual = kto_loss(
        logratios=torch.zeros(2),
        is_desirable=torch.tensor([True, False]),
        kl=torch.tensor(0.0),
        beta=0.1,
        desirable_weight=1.0,
        undesirable_weight=3.0,
    )
    assert actual.tolist() == [0.5, 1.5]


def test_kto_kl_is_the_mean_over_mismatched_completions_and_never_negative() -> None:
    def estimate(total: float, count: int | Tensor) -> float:
        return kto_kl(mismatched_logratios_sum=torch.tensor(total), num_mismatched=count).item()

    assert estimate(6.0, 4) == 1.5
    assert estimate(6.0, torch.tensor(4)) == 1.5
    assert estimate(6.0, torch.tensor(4.0)) == 1.5
    assert estimate(-6.0, 4) == 0.0
    assert estimate(0.0, 0) == 0.0


def test_kto_kl_gives_no_gradient() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    assert not kto_kl(mismatched_logratios_sum=total * 2, num_mismatched=4).requires_grad


# -- GRPO ----------------------------------------------------------------------------------------


def expected_grpo(
    batch: Batch,
    advantages: list[float],
    beta: float,
    clip: tuple[float, float],
    clamp: tuple[float, float] | None,
) -> Rows:
    losses: Rows = []
    rows = zip(batch.policy, batch.old, batch.reference, advantages, strict=True)
    for policy, old, reference, advantage in rows:
        row = []
        for p, o, r in zip(policy, old, reference, strict=True):
            ratio = math.exp(clamped(p - o, clamp))
            clipped = min(max(ratio, 1 - clip[0]), 1 + clip[1])
            kl = math.exp(r - p) - (r - p) - 1
            row.append(-min(ratio * advantage, clipped * advantage) + beta * kl)
        losses.append(row)
    return padded(losses, batch.num_padded)


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("seed", SEEDS)
def test_grpo_token_loss_agrees_with_python_floats(
    seed: int, beta: float, clamp: tuple[float, float] | None
) -> None:
    batch = random_batch(seed)
    advantages = random_values(seed, count=len(batch.policy), spread=1.0)
    actual = grpo_token_loss(
        token_logps=batch.policy_tensor,
        old_token_logps=batch.old_tensor,
        reference_token_logps=batch.reference_tensor,
        advantages=float64(advantages),
        completion_mask=batch.mask,
        beta=beta,
        clip_low=0.2,
        clip_high=0.28,
        clamp=clamp,
    )
    assert_close(actual, expected_grpo(batch, advantages, beta, (0.2, 0.28), clamp))


def grpo_gradient(
    logratio: float, advantage: float, clamp: tuple[float, float] | None = None
) -> float:
    """The gradient of one token's loss, without a KL term, by its log-probability."""
    logps = torch.tensor([[-1.0 + logratio]], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([[-1.0]], dtype=torch.float64)
    loss = grpo_token_loss(
        token_logps=logps,
        old_token_logps=old,
        reference_token_logps=old,
        advantages=float64([advantage]),
        completion_mask=torch.ones(1, 1),
        beta=0.0,
        clip_low=0.2,
        clip_high=0.2,
        clamp=clamp,
    )
    return gradient_of(loss, logps).item()


def test_grpo_gradient_on_policy_is_minus_the_advantage() -> None:
    assert grpo_gradient(0.0, 1.7) == pytest.approx(-1.7, abs=1e-12)
    assert grpo_gradient(0.0, -0.4) == pytest.approx(0.4, abs=1e-12)


def test_grpo_clip_stops_the_gradient_only_where_more_would_be_gained() -> None:
    assert grpo_gradient(0.5, 1.0) == 0.0
    assert grpo_gradient(-0.5, -1.0) == 0.0
    assert grpo_gradient(-0.5, 1.0) == pytest.approx(-math.exp(-0.5))
    assert grpo_gradient(0.5, -1.0) == pytest.approx(math.exp(0.5))


def test_grpo_humanline_clamp_stops_the_gradient_the_clip_would_let_through() -> None:
    assert grpo_gradient(-2.0, 1.0, clamp=(-1.0, 1.5)) == 0.0
    assert grpo_gradient(2.0, -1.0, clamp=(-1.0, 1.5)) == 0.0
    assert grpo_gradient(-0.5, 1.0, clamp=(-1.0, 1.5)) == pytest.approx(-math.exp(-0.5))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_group_advantages_agree_with_python_floats(seed: int, scale: bool) -> None:
    rng = random.Random(seed)
    groups = [rng.choice([3, 17, 5, 40]) for _ in range(20)]
    rewards = [rng.gauss(2, 3) for _ in groups]
    expected = []
    for group, reward in zip(groups, rewards, strict=True):
        members = [r for g, r in zip(groups, rewards, strict=True) if g == group]
        mean = sum(members) / len(members)
        std = math.sqrt(sum((r - mean) ** 2 for r in members) / len(members))
        expected.append((reward - mean) / (std + 1e-4 if scale else 1))
    actual = group_advantages(
        rewards=float64(rewards), group_index=torch.tensor(groups), scale=scale
    )
    assert_close(actual, expected)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_advantages_of_equal_rewards_and_of_a_group_of_one_are_exactly_zero(
    scale: bool, dtype: torch.dtype
) -> None:
    # Three times 0.1 sums to 0.30000000000000004: a plain mean would not give 0.1 back.
    rewards = torch.tensor([0.1, 0.1, 0.1, 7.3, 1e8], dtype=dtype)
    actual = group_advantages(
        rewards=rewards, group_index=torch.tensor([0, 0, 0, 1, 2]), scale=scale
    )
    assert actual.tolist() == [0.0] * 5


def test_advantages_of_no_rewards_are_none() -> None:
    empty = torch.zeros(0)
    assert group_advantages(rewards=empty, group_index=empty.long(), scale=True).shape == (0,)


# -- SFT, CSFT, KL -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_sft_token_loss_is_the_negative_logp_inside_the_mask(seed: int) -> None:
    batch = random_batch(seed)
    actual = sft_token_loss(token_logps=batch.policy_tensor, completion_mask=batch.mask)
    expected = [[-logp for logp in row] for row in batch.policy]
    assert_close(actual, padded(expected, batch.num_padded))


def test_control_prefix_follows_the_label() -> None:
    assert control_prefix(is_desirable=True, chosen="<good>", rejected="<bad>") == "<good>"
    assert control_prefix(is_desirable=False, chosen="<good>", rejected="<bad>") == "<bad>"


@pytest.mark.parametrize("seed", SEEDS)
def test_kl_of_next_tokens_agrees_with_python_floats(seed: int) -> None:
    rng = random.Random(seed)
    scale = rng.choice([0.1, 3.0, 40.0])
    rows = [[[rng.gauss(0, scale) for _ in range(7)] for _ in range(3)] for _ in range(2)]

    def probabilities(logits: list[float]) -> list[float]:
        powers = [math.exp(logit - max(logits)) for logit in logits]
        return [power / sum(powers) for power in powers]

    expected = [
        math.fsum(p * math.log(p / q) for p, q in zip(ours, theirs, strict=True))
        for ours, theirs in zip(*([probabilities(r) for r in side] for side in rows), strict=True)
    ]
    ours, theirs = (float64(side) for side in rows)
    assert_close(categorical_kl(ours, theirs), expected, tolerance=1e-12 * max(1, *expected))
    single = categorical_kl(ours.float(), theirs.float()).double()
    torch.testing.assert_close(single, float64(expected), rtol=1e-5, atol=0)


def test_kl_of_nearly_equal_next_tokens_keeps_its_digits_in_single_precision() -> None:
    torch.manual_seed(0)
    ours = torch.randn(4, 5000).mul(3)
    theirs = ours + 1e-3 * torch.randn(4, 5000)
    p, q = ours.double().softmax(-1), theirs.double().softmax(-1)
    exact = (p * (p.log() - q.log())).sum(-1)
    assert 1e-8 < exact.max() < 1e-5
    torch.testing.assert_close(categorical_kl(ours, theirs).double(), exact, rtol=1e-3, atol=0)


def test_kl_of_equal_next_tokens_is_zero_and_of_impossible_ones_is_large() -> None:
    logits = torch.randn(3, 9)
    assert categorical_kl(logits, logits).tolist() == [0.0, 0.0, 0.0]
    sure, other = torch.tensor([[0.0, -300.0]]), torch.tensor([[-300.0, 0.0]])
    assert categorical_kl(sure, other).item() == pytest.approx(300.0)


# -- edges ---------------------------------------------------------------------------------------

TokenLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _logratio_sums(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    values = token_logratios(
        policy_token_logps=policy, reference_token_logps=reference, completion_mask=mask
    )
    return sum_over_completion(values, mask)


def _logratio_means(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    values = token_logratios(
        policy_token_logps=policy, reference_token_logps=reference, completion_mask=mask
    )
    return mean_over_completion(values, mask)


def _dpo(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    sums = _logratio_sums(policy, reference, mask)
    return dpo_loss(chosen_logratios=sums, rejected_logratios=-2 * sums, beta=0.5)


def _cdpo(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    sums = _logratio_sums(policy, reference, mask)
    return cdpo_loss(
        chosen_logratios=sums, rejected_logratios=-2 * sums, beta=0.5, label_smoothing=0.2
    )


def _ipo(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    means = _logratio_means(policy, reference, mask)
    return ipo_loss(chosen_mean_logratios=means, rejected_mean_logratios=-2 * means, tau=0.1)


def _simpo(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    return simpo_loss(
        chosen_mean_logps=mean_over_completion(policy, mask),
        rejected_mean_logps=mean_over_completion(2 * policy, mask),
        beta=10.0,
        gamma_beta_ratio=0.3,
    )


def _slic(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    sums = sum_over_completion(policy, mask)
    return slic_loss(chosen_logps=sums, rejected_logps=sums / 2, delta=1.0, lambda_coef=0.1)


def _kto(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    sums = _logratio_sums(policy, reference, mask)
    return kto_loss(
        logratios=sums,
        is_desirable=torch.arange(len(sums)) % 2 == 0,
        kl=kto_kl(mismatched_logratios_sum=sums.sum(), num_mismatched=len(sums)),
        beta=0.5,
        desirable_weight=1.0,
        undesirable_weight=1.0,
    )


def _grpo(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    return grpo_token_loss(
        token_logps=policy,
        old_token_logps=reference,
        reference_token_logps=reference,
        advantages=torch.linspace(-1, 1, len(policy), dtype=policy.dtype),
        completion_mask=mask,
        beta=0.1,
        clip_low=0.2,
        clip_high=0.2,
    )


def _of_pairs(loss: Callable[..., Tensor], **settings: float | Tensor) -> TokenLoss:
    def value(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
        sums = _logratio_sums(policy, reference, mask)
        return loss(chosen_logratios=sums, rejected_logratios=-2 * sums, beta=0.5, **settings)

    value.__name__ = loss.__name__
    return value


NEW_PAIRS = [
    _of_pairs(robust_loss, label_smoothing=0.2),
    _of_pairs(exo_loss, label_smoothing=0.01),
    _of_pairs(apo_zero_loss),
    _of_pairs(apo_down_loss),
    _of_pairs(sppo_loss),
    _of_pairs(bco_loss, shift=torch.tensor(0.25)),
]


def _sft(policy: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    return sft_token_loss(token_logps=policy, completion_mask=mask)


FROM_TOKENS: list[TokenLoss] = [
    _dpo, _cdpo, _ipo, _simpo, _slic, _kto, _grpo, _sft, *NEW_PAIRS
]  # fmt: skip


def names(loss: TokenLoss) -> str:
    return loss.__name__.strip("_")


def value_and_gradient(
    loss: TokenLoss, policy: Tensor, reference: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = policy.clone().requires_grad_()
    value = loss(leaf, reference, mask)
    return value.detach(), gradient_of(value, leaf)


@pytest.mark.parametrize("loss", FROM_TOKENS, ids=names)
def test_an_empty_completion_gives_a_finite_loss_and_no_gradient(loss: TokenLoss) -> None:
    logps = torch.full((2, 3), -1.0)
    value, gradient = value_and_gradient(loss, logps, logps * 2, torch.zeros(2, 3))
    assert value.isfinite().all()
    assert torch.equal(gradient, torch.zeros(2, 3))


@pytest.mark.parametrize("loss", FROM_TOKENS, ids=names)
def test_a_completion_tensor_without_columns_gives_a_finite_loss(loss: TokenLoss) -> None:
    none = torch.zeros(2, 0)
    assert loss(none, none, none.bool()).isfinite().all()


@pytest.mark.parametrize("loss", FROM_TOKENS, ids=names)
@pytest.mark.parametrize("outside", [1e30, -1e30, 300.0])
def test_values_outside_the_mask_have_no_influence(loss: TokenLoss, outside: float) -> None:
    torch.manual_seed(0)
    policy, reference = -torch.rand(4, 6) * 3, -torch.rand(4, 6) * 3
    mask = torch.arange(6) < torch.tensor([[6], [3], [1], [0]])
    clean = value_and_gradient(
        loss, policy.masked_fill(~mask, 0), reference.masked_fill(~mask, 0), mask
    )
    dirty = value_and_gradient(
        loss, policy.masked_fill(~mask, outside), reference.masked_fill(~mask, -outside), mask
    )
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1], dirty[1])


@pytest.mark.parametrize("loss", FROM_TOKENS, ids=names)
@pytest.mark.parametrize("shift", [-1e4, -100.0, 100.0, 1e4])
def test_losses_and_gradients_stay_finite_at_extremes(loss: TokenLoss, shift: float) -> None:
    reference = torch.full((3, 4), -1.0)
    value, gradient = value_and_gradient(loss, reference + shift, reference, torch.ones(3, 4))
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", FROM_TOKENS, ids=names)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_losses_keep_the_dtype_and_change_no_input(loss: TokenLoss, dtype: torch.dtype) -> None:
    policy = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], dtype=dtype)
    reference, mask = policy - 0.25, torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    before = [tensor.clone() for tensor in (policy, reference, mask)]
    assert loss(policy, reference, mask).dtype == dtype
    for tensor, copy in zip((policy, reference, mask), before, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("loss", FROM_TOKENS, ids=names)
def test_float32_agrees_with_float64(loss: TokenLoss) -> None:
    torch.manual_seed(1)
    policy, reference = -torch.rand(5, 7).double(), -torch.rand(5, 7).double()
    mask = torch.arange(7) < torch.tensor([[7], [4], [2], [1], [0]])
    single = loss(policy.float(), reference.float(), mask)
    assert torch.allclose(single.double(), loss(policy, reference, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [_dpo, _cdpo, _ipo, _simpo, _slic, _grpo, _sft, *NEW_PAIRS], ids=names
)
def test_gradients_agree_with_finite_differences(loss: TokenLoss) -> None:
    # KTO is left out: its reference point moves with the policy but is held fixed by design.
    torch.manual_seed(2)
    policy = (-torch.rand(3, 4, dtype=torch.float64) * 2).requires_grad_()
    reference = -torch.rand(3, 4, dtype=torch.float64) * 2
    mask = torch.arange(4) < torch.tensor([[4], [2], [1]])
    assert torch.autograd.gradcheck(lambda logps: loss(logps, reference, mask), (policy,))


def test_kto_gradient_agrees_with_finite_differences_for_a_fixed_reference_point() -> None:
    logratios = float64(random_values(0, spread=1.0)).requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return kto_loss(
            logratios=values,
            is_desirable=torch.arange(len(values)) % 3 == 0,
            kl=torch.tensor(0.3, dtype=torch.float64),
            beta=0.7,
            desirable_weight=1.2,
            undesirable_weight=0.8,
        )

    assert torch.autograd.gradcheck(loss, (logratios,))


def test_pair_gradients_saturate_at_beta_and_vanish() -> None:
    margins = torch.tensor([-1e6, 1e6], requires_grad=True)
    loss = dpo_loss(chosen_logratios=margins, rejected_logratios=torch.zeros(2), beta=0.1)
    assert gradient_of(loss, margins).tolist() == pytest.approx([-0.1, 0.0])


def test_one_token_completions_have_equal_sums_and_means() -> None:
    batch = random_batch(5, lengths=[1, 1, 1])
    logratios = token_logratios(
        policy_token_logps=batch.policy_tensor,
        reference_token_logps=batch.reference_tensor,
        completion_mask=batch.mask,
    )
    expected = [row[0] for row in differences(batch.policy, batch.reference)]
    assert_close(sum_over_completion(logratios, batch.mask), expected)
    assert_close(mean_over_completion(logratios, batch.mask), expected)

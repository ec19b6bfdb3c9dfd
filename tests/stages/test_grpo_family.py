"""GRPO and its relatives as settings, each against its paper's formula in plain Python floats.

A microbatch here is the whole step. Masks are random, with holes; what is outside is far too large.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from halos_backend.config.losses import GRPO
from halos_backend.stages.train.losses.advantages import group_advantages, reward_std
from halos_backend.stages.train.losses.grpo import kl_of
from halos_backend.stages.train.objective import Rows, StepTotals, metric_names, share_of_step
from torch import Tensor

SEEDS = range(6)
MAX_NEW_TOKENS = 13
OUTSIDE = 1e30


@dataclass(frozen=True)
class Token:
    """Its log-probabilities under the five policies that a loss may ask for."""

    new: float
    old: float
    ref: float
    start: float
    sampler: float


@dataclass(frozen=True)
class Step:
    """The tokens inside the mask of each completion, and its advantage."""

    completions: list[list[Token]]
    advantages: list[float]

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.completions))


def random_step(seed: int) -> Step:
    rng = random.Random(seed)

    def token() -> Token:
        old = -rng.expovariate(0.7)
        return Token(
            old + rng.gauss(0, 0.4), old, old + rng.gauss(0, 0.8), old + rng.gauss(0, 0.1), old
        )

    lengths = [1, *(rng.randint(2, 9) for _ in range(7))]
    completions = [[token() for _ in range(length)] for length in lengths]
    return Step(completions, [rng.gauss(0, 1.3) for _ in lengths])


def rows_of(step: Step, seed: int) -> Rows:
    """The step as tensors, its tokens at random places of wider rows."""
    rng = random.Random(seed)
    width = 3 + max(map(len, step.completions))
    places = [sorted(rng.sample(range(width), len(tokens))) for tokens in step.completions]
    mask = torch.zeros(len(places), width, dtype=torch.bool)
    for row, of_row in enumerate(places):
        mask[row, of_row] = True

    def tensor(name: str, sign: float) -> Tensor:
        values = torch.full(mask.shape, sign * OUTSIDE, dtype=torch.float64)
        values[mask] = torch.tensor(
            [getattr(token, name) for tokens in step.completions for token in tokens],
            dtype=torch.float64,
        )
        return values

    return Rows(
        token_logps=tensor("new", 1.0).requires_grad_(),
        completion_mask=mask,
        reference_token_logps=tensor("ref", -1.0),
        old_token_logps=tensor("old", -1.0),
        start_token_logps=tensor("start", 1.0),
        sampler_token_logps=tensor("sampler", -1.0),
        advantages=torch.tensor(step.advantages, dtype=torch.float64),
    )


def loss_of(rows: Rows, **settings: Any) -> tuple[Tensor, dict[str, float]]:
    loss = GRPO(kind="grpo", **settings)
    totals = StepTotals(
        len(rows.token_logps), int(rows.completion_mask.sum()), max_new_tokens=MAX_NEW_TOKENS
    )
    share = share_of_step(loss, rows, totals)
    assert set(share.sums) == set(metric_names(loss))
    return share.loss, {name: float(total / count) for name, (total, count) in share.sums.items()}


def gradient(rows: Rows, **settings: Any) -> Tensor:
    (found,) = torch.autograd.grad(loss_of(rows, **settings)[0], rows.token_logps)
    return found


def clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def k3(token: Token) -> float:
    return math.exp(token.ref - token.new) - (token.ref - token.new) - 1


def token_mean(step: Step, loss: Callable[[Token, float], float]) -> float:
    total = math.fsum(
        loss(token, advantage)
        for tokens, advantage in zip(step.completions, step.advantages, strict=True)
        for token in tokens
    )
    return total / step.num_tokens


def grpo(step: Step) -> float:
    """Shao et al. 2024, eq. 3: a mean over completions of means over their tokens."""
    means = []
    for tokens, a in zip(step.completions, step.advantages, strict=True):
        losses = []
        for token in tokens:
            w = math.exp(token.new - token.old)
            losses.append(-min(w * a, clip(w, 0.8, 1.2) * a) + 0.04 * k3(token))
        means.append(math.fsum(losses) / len(losses))
    return math.fsum(means) / len(means)


def dapo(step: Step) -> float:
    """Yu et al. 2025: another upper bound, and a mean over the tokens of the step."""

    def loss(token: Token, a: float) -> float:
        w = math.exp(token.new - token.old)
        return -min(w * a, clip(w, 1 - 0.2, 1 + 0.28) * a)

    return token_mean(step, loss)


def dr_grpo(step: Step) -> float:
    """Liu et al. 2025: a constant in place of the lengths."""
    total = 0.0
    for tokens, a in zip(step.completions, step.advantages, strict=True):
        for token in tokens:
            w = math.exp(token.new - token.old)
            total -= min(w * a, clip(w, 0.8, 1.2) * a)
    return total / (len(step.completions) * MAX_NEW_TOKENS)


def gspo(step: Step) -> float:
    """Zheng et al. 2025: one ratio a completion, no mean over tokens at all."""
    losses = []
    for tokens, a in zip(step.completions, step.advantages, strict=True):
        v = math.exp(math.fsum(token.new - token.old for token in tokens) / len(tokens))
        losses.append(-min(v * a, clip(v, 1 - 3e-4, 1 + 4e-4) * a))
    return math.fsum(losses) / len(losses)


def rloo(step: Step) -> float:
    """Ahmadian et al. 2024, with PPO's clip: the ratio of whole completions."""
    losses = []
    for tokens, a in zip(step.completions, step.advantages, strict=True):
        w = math.prod(math.exp(token.new - token.old) for token in tokens)
        losses.append(-min(w * a, clip(w, 0.8, 1.2) * a))
    return math.fsum(losses) / len(losses)


def cispo(step: Step) -> float:
    """MiniMax 2025: a weight without gradient."""
    return token_mean(
        step, lambda token, a: -min(math.exp(token.new - token.old), 1.1) * a * token.new
    )


def dual_clip(step: Step) -> float:
    """Ye et al. 2020."""

    def loss(token: Token, a: float) -> float:
        w = math.exp(token.new - token.old)
        larger = max(-a * w, -a * clip(w, 0.8, 1.2))
        return min(larger, -1.3 * a) if a < 0 else larger

    return token_mean(step, loss)


def truncated(step: Step) -> float:
    """Yao et al. 2025; the KL term is not weighted."""

    def loss(token: Token, a: float) -> float:
        w = math.exp(token.new - token.old)
        surrogate = -min(w * a, clip(w, 0.8, 1.2) * a)
        return min(math.exp(token.start - token.sampler), 1.05) * surrogate + 0.04 * k3(token)

    return token_mean(step, loss)


def with_k2(step: Step) -> float:
    def loss(token: Token, a: float) -> float:
        w = math.exp(token.new - token.old)
        return -min(w * a, clip(w, 0.8, 1.2) * a) + 0.04 * (token.new - token.ref) ** 2 / 2

    return token_mean(step, loss)


DAPO: dict[str, Any] = {"beta": 0.0, "clip_low": 0.2, "clip_high": 0.28}
GSPO: dict[str, Any] = {
    "beta": 0.0, "ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "aggregation": "sequence"
}  # fmt: skip
VARIANTS: dict[Callable[[Step], float], dict[str, Any]] = {
    grpo: {"beta": 0.04, "aggregation": "sequence"},
    dapo: DAPO,
    dr_grpo: {"beta": 0.0, "aggregation": "constant"},
    gspo: GSPO,
    rloo: {"beta": 0.0, "ratio": "product", "aggregation": "sequence"},
    cispo: {"beta": 0.0, "cispo_cap": 1.1},
    dual_clip: {"beta": 0.0, "dual_clip": 1.3},
    truncated: {"beta": 0.04, "sampler_ratio_cap": 1.05},
    with_k2: {"beta": 0.04, "kl_estimate": "k2"},
}


@pytest.mark.parametrize("formula", VARIANTS, ids=lambda formula: formula.__name__)
@pytest.mark.parametrize("seed", SEEDS)
def test_each_variant_equals_its_formula(formula: Callable[[Step], float], seed: int) -> None:
    step = random_step(seed)
    found, _ = loss_of(rows_of(step, seed), **VARIANTS[formula])
    assert found.item() == pytest.approx(formula(step), rel=0, abs=1e-12)


@pytest.mark.parametrize("formula", VARIANTS, ids=lambda formula: formula.__name__)
def test_the_gradient_of_each_variant_is_that_of_its_formula(
    formula: Callable[[Step], float],
) -> None:
    """By central differences of the plain formula; CISPO's weight is held where it is."""
    step = random_step(3)
    rows = rows_of(step, 3)
    found = gradient(rows, **VARIANTS[formula])
    assert not found[~rows.completion_mask].any()
    slopes = []
    for number, tokens in enumerate(step.completions):
        for place, token in enumerate(tokens):
            if formula is cispo:
                a = step.advantages[number]
                slopes.append(-min(math.exp(token.new - token.old), 1.1) * a / step.num_tokens)
                continue
            ends = []
            for by in (-1e-6, 1e-6):
                moved = [list(other) for other in step.completions]
                moved[number][place] = Token(
                    token.new + by, token.old, token.ref, token.start, token.sampler
                )
                ends.append(formula(Step(moved, step.advantages)))
            slopes.append((ends[1] - ends[0]) / 2e-6)
    assert found[rows.completion_mask].tolist() == pytest.approx(slopes, abs=1e-8)


def on_policy(seed: int) -> Step:
    step = random_step(seed)
    same = [
        [Token(t.old, t.old, t.ref, t.start, t.sampler) for t in tokens]
        for tokens in step.completions
    ]
    return Step(same, step.advantages)


@pytest.mark.parametrize("seed", SEEDS)
def test_on_policy_dapo_and_cispo_have_the_gradient_of_reinforce(seed: int) -> None:
    step = on_policy(seed)
    rows = rows_of(step, seed)
    reinforce = -torch.tensor(step.advantages, dtype=torch.float64) / step.num_tokens
    expected = torch.where(rows.completion_mask, reinforce.unsqueeze(-1), 0.0)
    for settings in (DAPO, {"beta": 0.0, "cispo_cap": 5.0}):
        torch.testing.assert_close(gradient(rows, **settings), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_on_policy_gspo_has_the_gradient_of_a_mean_over_each_completion(seed: int) -> None:
    rows = rows_of(on_policy(seed), seed)
    means = gradient(rows, beta=0.0, aggregation="sequence")
    torch.testing.assert_close(gradient(rows, **GSPO), means, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("aggregation", "weights"),
    [
        ("sequence", (1 / 96, 1 / 24, 1 / 8)),
        ("token", (1 / 51, 1 / 51, 1 / 51)),
        ("constant", (1 / 104, 1 / 104, 1 / 104)),
    ],
)
def test_what_a_token_weighs_in_completions_of_12_and_3_and_1(
    aggregation: str, weights: tuple[float, ...]
) -> None:
    """Of eight completions with 51 tokens, of which each may have 13."""
    lengths = [12, 3, 1, 7, 7, 7, 7, 7]
    token = Token(-1.0, -1.0, -1.0, -1.0, -1.0)
    rows = rows_of(Step([[token] * length for length in lengths], [1.0] * 8), 0)
    found = -gradient(rows, beta=0.0, aggregation=aggregation)
    for row, weight in enumerate(weights):
        assert found[row][rows.completion_mask[row]].tolist() == pytest.approx(
            [weight] * lengths[row], abs=1e-15
        )


def test_without_a_dual_clip_a_large_ratio_has_a_large_gradient() -> None:
    token = Token(4.0, -1.0, -1.0, -1.0, -1.0)
    rows = rows_of(Step([[token]], [-1.0]), 0)
    assert gradient(rows, beta=0.0).max().item() == pytest.approx(math.exp(5))  # 148
    assert gradient(rows, beta=0.0, dual_clip=3.0).abs().max().item() == 0.0
    assert loss_of(rows, beta=0.0, dual_clip=3.0)[0].item() == 3.0


@pytest.mark.parametrize("estimate", ["k3", "k2"])
def test_on_policy_k3_has_the_gradient_of_the_kl_from_the_reference_and_k2_that_to_it(
    estimate: Any,
) -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(9, dtype=torch.float64).log_softmax(-1)
    logps = logits.log_softmax(-1)
    # the expectation over tokens of the policy, which samples without gradient
    loss = (logps.exp().detach() * kl_of(logps - reference, estimate)).sum()
    from_reference = (reference.exp() * (reference - logps)).sum()
    to_reference = (logps.exp() * (logps - reference)).sum()
    found, k3_is, k2_is = (
        torch.autograd.grad(value, logits, retain_graph=True)[0]
        for value in (loss, from_reference, to_reference)
    )
    torch.testing.assert_close(found, k3_is if estimate == "k3" else k2_is, rtol=0, atol=1e-14)
    assert not torch.allclose(k3_is, k2_is, atol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio": "sequence"},
        {"ratio": "product"},
        {"cispo_cap": 5.0},
        {"dual_clip": 3.0},
        {"sampler_ratio_cap": 2.0},
        {"kl_estimate": "k2"},
        {"aggregation": "constant"},
    ],
    ids=str,
)
def test_huge_log_ratios_and_empty_completions_give_finite_losses_and_gradients(
    settings: dict[str, Any],
) -> None:
    logps = torch.tensor([[0.0, 1e4, -1.0], [-1.0, -1.0, -1.0]], requires_grad=True)
    zeros = torch.full_like(logps, -1.0)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    rows = Rows(logps, mask, zeros, zeros, zeros, zeros, advantages=torch.tensor([-1.0, 1.0]))
    loss, metrics = loss_of(rows, **settings)
    (found,) = torch.autograd.grad(loss, logps)
    assert loss.isfinite()
    assert found.isfinite().all()
    assert not found[~mask].any()
    assert all(math.isfinite(value) for value in metrics.values())


def test_metrics_of_ratios_by_hand() -> None:
    half, same, twice = (Token(-1.0 + d, -1.0, -1.0, -1.0 + d, -1.0) for d in (-0.7, 0.0, 0.7))
    rows = rows_of(Step([[half, same, twice], [half, same, twice]], [1.0, -1.0]), 1)
    # the one above 1.2 of the good completion, and the one below 0.8 of the bad one
    assert loss_of(rows)[1]["clip_frac"] == pytest.approx(2 / 6)
    assert loss_of(rows, dual_clip=1.5)[1]["clip_frac"] == pytest.approx(3 / 6)
    assert loss_of(rows, cispo_cap=1.5)[1]["clip_frac"] == pytest.approx(2 / 6)
    # exp(-0.7), 1 and exp(0.7) have a mean log of 0
    assert loss_of(rows, ratio="sequence")[1]["clip_frac"] == 0.0
    found = loss_of(rows, sampler_ratio_cap=1.5)[1]
    assert found["sampler_ratio_mean"] == pytest.approx((math.exp(-0.7) + 1 + 1.5) / 3)
    assert found["sampler_capped_frac"] == pytest.approx(1 / 3)


# -- advantages ----------------------------------------------------------------------------------


def advantages(rewards: Sequence[float], groups: Sequence[int], **settings: Any) -> list[float]:
    tensor = torch.tensor(rewards, dtype=torch.float64)
    index = torch.tensor(groups)
    return group_advantages(rewards=tensor, group_index=index, **settings).tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_leave_one_out_is_the_reward_less_the_mean_of_the_others(seed: int) -> None:
    rng = random.Random(seed)
    groups = [rng.randrange(4) for _ in range(20)]
    groups += sorted({*groups})  # at least two of each
    rewards = [rng.gauss(1, 2) for _ in groups]
    expected, scaled = [], []
    for place, (reward, group) in enumerate(zip(rewards, groups, strict=True)):
        others = [r for i, r in enumerate(rewards) if groups[i] == group and i != place]
        expected.append(reward - math.fsum(others) / len(others))
        members = [*others, reward]
        mean = math.fsum(members) / len(members)
        size = len(members)
        scaled.append(size / (size - 1) * (reward - mean))
    found = advantages(rewards, groups, scale=False, baseline="leave_one_out")
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    assert found == pytest.approx(scaled, rel=0, abs=1e-12)


def test_leave_one_out_of_a_group_of_one_and_of_equal_rewards_is_zero() -> None:
    rewards, groups = [0.1, 0.1, 0.1, 7.3], [0, 0, 0, 1]
    assert advantages(rewards, groups, scale=False, baseline="leave_one_out") == [0.0] * 4


def test_batch_scaled_advantages_divide_by_the_deviation_of_all_rewards() -> None:
    # rewards 0, 2 and 10, 14: mean 6.5, deviations -6.5 -4.5 3.5 7.5, variance 32.75
    std = math.sqrt(32.75)
    rewards = [0.0, 2.0, 10.0, 14.0]
    assert reward_std(torch.tensor(rewards, dtype=torch.float64)) == pytest.approx(std)
    found = advantages(rewards, [0, 0, 1, 1], scale=True, round_std=std)
    expected = [a / (std + 1e-4) for a in (-1.0, 1.0, -2.0, 2.0)]
    assert found == pytest.approx(expected, rel=0, abs=1e-12)

"""Drawing tokens: inverse cumulative distributions by hand and by plain Python."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from halos_backend.errors import NonFiniteError
from halos_backend.stages.sample.draw import NUM_CANDIDATES, draw_tokens, penalize, uniforms

from tests.support.plain_sampling import plain_distribution

BELOW_ONE = math.nextafter(1.0, 0.0)


def logits_of(probabilities: list[float]) -> torch.Tensor:
    return torch.tensor([[math.log(p) if p else -math.inf for p in probabilities]])


def draw(
    probabilities: list[float], u: float, *, temperature: float = 1.0, top_p: float = 1.0
) -> int:
    numbers = torch.tensor([u], dtype=torch.float64)
    return int(
        draw_tokens(logits_of(probabilities), numbers, temperature=temperature, top_p=top_p).item()
    )


def shares(probabilities: list[float], **settings: Any) -> dict[int, float]:
    """The share of each token over an even grid of numbers."""
    return shares_of_logits(logits_of(probabilities), **settings)


def shares_of_logits(
    logits: torch.Tensor, *, num: int = 10_000, **settings: Any
) -> dict[int, float]:
    numbers = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    logits = logits.expand(num, -1)
    tokens = draw_tokens(logits, numbers, **{"temperature": 1.0, "top_p": 1.0, **settings})
    return {token: count / num for token, count in Counter(tokens.tolist()).items()}


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.24, 0), (0.26, 1), (0.74, 1), (0.76, 3), (BELOW_ONE, 3)]
)
def test_a_number_picks_the_token_whose_part_of_the_unit_interval_it_is_in(
    u: float, token: int
) -> None:
    assert draw([0.25, 0.5, 0.0, 0.25], u) == token


@pytest.mark.parametrize("u", [0.0, BELOW_ONE])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_a_token_without_probability_is_never_drawn(u: float, top_p: float) -> None:
    assert draw([0.0, 0.0, 1.0, 0.0], u, top_p=top_p) == 2


def test_shares_over_a_grid_are_the_distribution() -> None:
    expected = {0: 0.1, 1: 0.2, 3: 0.3, 4: 0.4}
    assert shares([0.1, 0.2, 0.0, 0.3, 0.4]) == pytest.approx(expected, abs=2e-4)


def test_temperature_one_half_squares_the_probabilities() -> None:
    # 0.2^2 : 0.3^2 : 0.5^2 = 4 : 9 : 25
    expected = {0: 4 / 38, 1: 9 / 38, 2: 25 / 38}
    assert shares([0.2, 0.3, 0.5], temperature=0.5) == pytest.approx(expected, abs=2e-4)


def test_temperature_applies_before_the_nucleus() -> None:
    # at 0.5 the likeliest has 25/38 = 0.66, so it alone reaches 0.6; at 1 it has 0.5 and does not
    assert shares([0.2, 0.3, 0.5], temperature=0.5, top_p=0.6) == {2: 1.0}
    assert set(shares([0.2, 0.3, 0.5], temperature=1.0, top_p=0.6)) == {1, 2}


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [(0.01, {1}), (0.49, {1}), (0.5, {1}), (0.51, {1, 3}), (0.75, {1, 3}), (0.76, {1, 3, 0})],
)
def test_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, nucleus: set[int]) -> None:
    # powers of two, so that 0.5 and 0.75 are exact
    probabilities = [0.125, 0.5, 0.0625, 0.25, 0.0625]
    total = sum(probabilities[token] for token in nucleus)
    expected = {token: probabilities[token] / total for token in nucleus}
    assert shares(probabilities, top_p=top_p) == pytest.approx(expected, abs=2e-4)


def test_min_p_leaves_tokens_of_a_share_of_the_likeliest() -> None:
    # a quarter of 0.5 is 0.125: the two below it go, the one at it stays
    probabilities = [0.125, 0.5, 0.0625, 0.25, 0.0625]
    expected = {0: 0.125 / 0.875, 1: 0.5 / 0.875, 3: 0.25 / 0.875}
    assert shares(probabilities, min_p=0.25) == pytest.approx(expected, abs=2e-4)


def test_min_p_applies_after_the_temperature() -> None:
    # at 0.5 the shares of the likeliest are 4/25 and 9/25
    assert set(shares([0.2, 0.3, 0.5], temperature=0.5, min_p=0.2)) == {1, 2}
    assert set(shares([0.2, 0.3, 0.5], temperature=1.0, min_p=0.2)) == {0, 1, 2}


def test_top_k_leaves_the_likeliest_tokens_and_those_as_likely_as_the_last() -> None:
    probabilities = [0.125, 0.5, 0.0625, 0.25, 0.0625]
    found = shares(probabilities, top_k=2)
    assert found == pytest.approx({1: 0.5 / 0.75, 3: 0.25 / 0.75}, abs=2e-4)
    assert set(shares(probabilities, top_k=4)) == {0, 1, 2, 3, 4}
    assert set(shares(probabilities, top_k=99)) == {0, 1, 2, 3, 4}


def test_the_nucleus_is_of_what_top_k_leaves() -> None:
    # of 0.5 and 0.25 the likelier has two thirds, which reaches 0.6; of all it has a half
    probabilities = [0.125, 0.5, 0.0625, 0.25, 0.0625]
    assert shares(probabilities, top_k=2, top_p=0.6) == {1: 1.0}
    assert set(shares(probabilities, top_p=0.6)) == {1, 3}


def test_the_nucleus_is_of_what_min_p_leaves() -> None:
    # without the last two tokens the first three have 8, 4 and 2 of 14; 12 / 14 reaches 0.8
    probabilities = [0.5, 0.25, 0.125, 0.0625, 0.0625]
    assert set(shares(probabilities, min_p=0.25, top_p=0.8)) == {0, 1}
    assert set(shares(probabilities, top_p=0.8)) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(30))
def test_all_cuts_together_agree_with_python_floats(seed: int) -> None:
    rng = random.Random(seed)
    logits = [rng.gauss(0, 2) for _ in range(12)]
    cuts: dict[str, Any] = {
        "temperature": rng.choice([0.5, 1.0, 1.7]),
        "min_p": rng.choice([0.0, 0.02, 0.1, 0.3]),
        "top_k": rng.choice([None, 1, 2, 5, 9]),
        "top_p": rng.choice([0.3, 0.7, 0.95, 1.0]),
    }
    found = shares_of_logits(torch.tensor([logits]), **cuts)
    expected = plain_distribution(logits, **cuts)
    assert found.keys() <= expected.keys()  # some are rarer than a number of the grid
    shares = {token: found.get(token, 0.0) for token in expected}
    assert shares == pytest.approx(expected, abs=2e-4)


def test_a_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative() -> None:
    logits = torch.tensor([[2.0, -2.0, 0.0, 3.0], [2.0, -2.0, 0.0, 3.0]])
    is_seen = torch.tensor([[True, True, True, False], [False, False, False, True]])
    found = penalize(logits, is_seen, 2.0)
    assert found.tolist() == [[1.0, -4.0, 0.0, 3.0], [2.0, -2.0, 0.0, 1.5]]


def test_temperature_zero_takes_the_likeliest_whatever_the_number() -> None:
    assert [draw([0.3, 0.4, 0.3], u, temperature=0.0) for u in (0.0, BELOW_ONE)] == [1, 1]


def by_plain_python(logits: list[float], u: float, *, top_p: float) -> int:
    weights = [math.exp(logit) for logit in logits]
    total = sum(weights)
    ranked = sorted(range(len(weights)), key=lambda token: (-weights[token], token))
    nucleus, mass = [], 0.0
    for token in ranked:
        if mass >= top_p * total:
            break
        nucleus.append(token)
        mass += weights[token]
    reached = 0.0
    for token in nucleus:
        reached += weights[token]
        if reached > u * mass:
            return token
    return nucleus[-1]


@pytest.mark.parametrize("scale", [4.0, 0.1], ids=["inside the candidates", "past the candidates"])
def test_a_large_vocabulary_gives_the_tokens_of_a_full_sort(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(40, 4 * NUM_CANDIDATES, generator=generator)
    numbers = torch.rand(40, generator=generator, dtype=torch.float64)
    tokens = draw_tokens(logits, numbers, temperature=1.0, top_p=0.9).tolist()
    rows = zip(logits.double().tolist(), numbers.tolist(), strict=True)
    assert tokens == [by_plain_python(row, u, top_p=0.9) for row, u in rows]


def test_equally_likely_tokens_are_taken_in_their_own_order() -> None:
    # logits on a coarse grid, as bfloat16 has them: many are equal
    generator = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(40, 4 * NUM_CANDIDATES, generator=generator)).round()
    numbers = torch.rand(40, generator=generator, dtype=torch.float64)
    tokens = draw_tokens(logits, numbers, temperature=1.0, top_p=0.7).tolist()
    rows = zip(logits.double().tolist(), numbers.tolist(), strict=True)
    assert tokens == [by_plain_python(row, u, top_p=0.7) for row, u in rows]


def test_a_flat_batch_mate_leaves_a_draw_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    peaked = (4 * torch.randn(1, 4 * NUM_CANDIDATES, generator=generator)).round()
    flat = torch.zeros_like(peaked)  # its nucleus is wider than the candidates
    for u in (0.1, 0.5, 0.9, 0.99):
        numbers = torch.tensor([u, u], dtype=torch.float64)
        alone = draw_tokens(peaked, numbers[:1], temperature=1.0, top_p=0.9)
        together = draw_tokens(torch.cat([peaked, flat]), numbers, temperature=1.0, top_p=0.9)
        assert together[0] == alone[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_not_a_token(
    broken: float, temperature: float
) -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, broken]])
    numbers = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match="logits are NaN or infinite"):
        draw_tokens(logits, numbers, temperature=temperature, top_p=1.0)


def test_uniforms_depend_on_their_own_seed_alone() -> None:
    together = uniforms([11, 22, 33], 20)
    assert torch.equal(together[1], uniforms([22], 20)[0])
    assert torch.equal(together[[2, 0]], uniforms([33, 11], 20))
    assert not torch.equal(together[0], together[1])


def test_a_longer_row_of_uniforms_begins_with_the_shorter() -> None:
    assert torch.equal(uniforms([5], 100)[0, :30], uniforms([5], 30)[0])


def test_uniforms_are_even_over_the_unit_interval() -> None:
    numbers = uniforms(list(range(50)), 400).flatten()
    assert numbers.dtype == torch.float64
    assert 0.0 <= float(numbers.min()) < float(numbers.max()) < 1.0
    counts = torch.histc(numbers.float(), bins=10, min=0.0, max=1.0)
    # 20,000 in ten bins of 2,000 each; five standard deviations are 5 sqrt(2,000 * 0.9) = 212
    assert float((counts - 2000).abs().max()) < 212

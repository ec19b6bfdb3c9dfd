"""Drawing tokens: the inverse of a cumulative distribution, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from halos_backend.stages.sample.draw import NUM_CANDIDATES, draw_tokens, uniforms

PROBABILITIES = [0.1, 0.5, 0.0, 0.15, 0.25]
LOGITS = torch.tensor([[math.log(p) if p else -math.inf for p in PROBABILITIES]])


def drawn(numbers: list[float], *, temperature: float = 1.0, top_p: float = 1.0) -> list[int]:
    rows = LOGITS.expand(len(numbers), -1)
    return draw_tokens(
        rows,
        torch.tensor(numbers, dtype=torch.float64),
        temperature=temperature,
        top_p=top_p,
    ).tolist()


def test_a_token_has_its_probability_wide_a_part_of_the_unit_interval() -> None:
    # Token 0 up to 0.1, token 1 up to 0.6, token 3 up to 0.75, token 4 up to 1.
    assert drawn([0.0, 0.05, 0.11, 0.59, 0.61, 0.74, 0.76, 0.999999]) == [0, 0, 1, 1, 3, 3, 4, 4]


def test_a_grid_of_numbers_draws_each_token_in_proportion() -> None:
    count = 2000
    tokens = drawn([(i + 0.5) / count for i in range(count)])
    for token, probability in enumerate(PROBABILITIES):
        assert tokens.count(token) == pytest.approx(probability * count, abs=1)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    # By probability: 1 (0.5), 4 (0.25), 3 (0.15), 0 (0.1). 0.7 needs 1 and 4: 2/3 and 1/3.
    assert drawn([0.0, 0.66, 0.67, 0.999], top_p=0.7) == [1, 1, 4, 4]
    assert drawn([0.0, 0.999], top_p=0.4) == [1, 1]
    # 0.8 is not reached by 0.75, so token 3 belongs too: edges 0.5/0.9 and 0.75/0.9.
    assert drawn([0.55, 0.56, 0.83, 0.84], top_p=0.8) == [1, 4, 4, 3]


def test_temperature_sharpens_and_zero_takes_the_likeliest() -> None:
    # At temperature 0.5 probabilities go as squares: 0.01, 0.25, 0, 0.0225, 0.0625 of 0.345.
    assert drawn([0.028, 0.03, 0.753, 0.754, 0.818, 0.819], temperature=0.5) == [0, 1, 1, 3, 3, 4]
    assert drawn([0.0, 0.999], temperature=0.0) == [1, 1]


def test_a_token_without_probability_is_never_drawn() -> None:
    numbers = [i / 997 for i in range(997)] + [1 - 2**-53]
    assert 2 not in drawn(numbers)
    assert 2 not in drawn(numbers, top_p=0.999)


def test_a_large_vocabulary_gives_what_a_full_sort_gives() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(64, NUM_CANDIDATES * 4)
    numbers = torch.rand(64, dtype=torch.float64)
    for top_p in (0.3, 0.9, 0.9999):
        ordered, tokens = torch.softmax(logits, -1).double().sort(descending=True)
        inside = (ordered.cumsum(-1) - ordered) < top_p
        weights = (ordered * inside).cumsum(-1)
        position = (weights <= numbers[:, None] * weights[:, -1:]).sum(-1, keepdim=True)
        expected = tokens.gather(-1, position).squeeze(-1)
        ours = draw_tokens(logits, numbers, temperature=1.0, top_p=top_p)
        assert ours.tolist() == expected.tolist()


def test_a_rows_numbers_depend_on_its_own_seed_alone() -> None:
    together = uniforms([5, 6, 7], 10)
    assert torch.equal(together[1], uniforms([6], 10)[0])
    assert not torch.equal(together[0], together[1])
    assert together.min() >= 0 and together.max() < 1

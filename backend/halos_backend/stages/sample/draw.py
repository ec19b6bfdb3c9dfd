"""Draws tokens: the inverse of the cumulative distribution at a number of the completion's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from halos_backend.errors import NonFiniteError

NUM_CANDIDATES = 512
"""A nucleus is looked for in this many tokens before the whole vocabulary is sorted."""


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """(rows, count) numbers in [0, 1), float64; each row depends on its own seed alone."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def draw_tokens(logits: Tensor, numbers: Tensor, *, temperature: float, top_p: float) -> Tensor:
    """One token per row. `logits` are (rows, vocabulary), `numbers` (rows,) in [0, 1).

    Temperature 0 takes the likeliest token. The nucleus is the smallest set of likeliest tokens
    whose probability reaches `top_p` (Holtzman et al. 2020). Raises NonFiniteError.
    """
    highest, likeliest_tokens = logits.max(-1)
    if not bool(highest.isfinite().all()):  # NaN is the highest where there is one
        raise NonFiniteError(
            "the policy's logits are NaN or infinite; see whether its weights are, or take"
            ' policy.dtype = "bfloat16" or "float32" in place of float16'
        )
    if temperature == 0.0:
        return likeliest_tokens
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_p == 1.0:
        return _invert(probabilities, numbers)
    likeliest, tokens = _likeliest(probabilities, top_p)
    before = likeliest.double().cumsum(-1) - likeliest
    nucleus = likeliest.masked_fill(before >= top_p, 0.0)
    return tokens.gather(-1, _invert(nucleus, numbers).unsqueeze(-1)).squeeze(-1)


def _likeliest(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order and their tokens, enough of them to hold every nucleus.

    Equal ones are in the tokens' order, and those equal to the last candidate's do not count: which
    of them are candidates is chance, and a draw must not depend on how its batch mates are sorted.
    """
    size = probabilities.shape[-1]
    if size > NUM_CANDIDATES:
        tokens = probabilities.topk(NUM_CANDIDATES, dim=-1).indices.sort(-1).values
        likeliest, order = probabilities.gather(-1, tokens).sort(
            dim=-1, descending=True, stable=True
        )
        surely_in = likeliest.masked_fill(likeliest == likeliest[:, -1:], 0.0)
        if bool((surely_in.double().sum(-1) >= top_p).all()):
            return likeliest, tokens.gather(-1, order)
    return torch.sort(probabilities, dim=-1, descending=True, stable=True)


def _invert(weights: Tensor, numbers: Tensor) -> Tensor:
    """The first position where the cumulative weight exceeds its row's number times the total."""
    cumulative = weights.double().cumsum(-1)
    wanted = numbers.unsqueeze(-1) * cumulative[:, -1:]
    positions = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum(positions, last)

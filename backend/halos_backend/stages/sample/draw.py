"""Draws tokens from logits: a draw is the inverse of the cumulative distribution at a number of the
completion's own.

The order is vLLM's: end tokens that are too early, repetition penalty, temperature, min_p, top_k,
top_p. transformers' own `generate` has min_p last, which is another distribution where top_p cuts
off more than min_p.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from halos_backend.errors import NonFiniteError
from halos_backend.stages.sample.engine import Request
from halos_backend.stages.sample.sampling import Sampling

NUM_CANDIDATES = 512
"""Is how many tokens a nucleus is looked for in before the whole vocabulary is sorted."""


class Draws:
    """Draws the tokens of completions that are decoded together. A row is the number of one."""

    def __init__(
        self, requests: Sequence[Request], sampling: Sampling, device: torch.device
    ) -> None:
        self._sampling = sampling
        numbers = uniforms([request.seed for request in requests], sampling.max_new_tokens)
        self._numbers = numbers.to(device)
        temperatures = [sampling.temperature_of(request) for request in requests]
        self._temperatures = torch.tensor(temperatures, dtype=torch.float64, device=device)
        self._distinct = sorted(set(temperatures))
        self._prompts = [request.prompt_token_ids for request in requests]
        self._seen: Tensor | None = None

    def tokens(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        """Draws the token number `step`, from 0, of each of `rows`, whose `logits` are
        (rows, vocabulary). Raises NonFiniteError.
        """
        allowed = self._allowed(logits, rows, step)
        numbers, temperatures = self._numbers[rows, step], self._temperatures[rows]
        if len(self._distinct) == 1:
            tokens = self._draw(allowed, numbers, self._distinct[0])
        else:
            tokens = torch.empty_like(rows)
            for temperature in self._distinct:
                has_it = temperatures == temperature
                tokens[has_it] = self._draw(allowed[has_it], numbers[has_it], temperature)
        if self._seen is not None:
            self._seen[rows, tokens] = True
        return tokens

    def _draw(self, logits: Tensor, numbers: Tensor, temperature: float) -> Tensor:
        sampling = self._sampling
        return draw_tokens(
            logits,
            numbers,
            temperature=temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
        )

    def _allowed(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        """Returns logits after the repetition penalty, without end tokens that are too early."""
        sampling = self._sampling
        if step < sampling.ending.min_new_tokens:
            ends = [token for token in sampling.ending.token_ids if token < logits.shape[-1]]
            logits = logits.clone()
            logits[:, ends] = -torch.inf
        if sampling.repetition_penalty == 1.0:
            return logits
        if self._seen is None:
            self._seen = _seen_in(self._prompts, logits)
        return penalize(logits, self._seen[rows], sampling.repetition_penalty)


def penalize(logits: Tensor, is_seen: Tensor, penalty: float) -> Tensor:
    """Makes tokens that are there already less likely (Keskar et al. 2019, section 4.1), as
    transformers and vLLM do: negative logits are multiplied. Both are (rows, vocabulary).
    """
    logits = logits.float()
    return torch.where(is_seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _seen_in(prompts: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    """Returns which tokens are in each prompt, (prompts, vocabulary)."""
    seen = torch.zeros((len(prompts), logits.shape[-1]), dtype=torch.bool, device=logits.device)
    for row, prompt in enumerate(prompts):
        seen[row, torch.tensor(prompt, device=logits.device)] = True
    return seen


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Returns (rows, count) numbers in [0, 1), float64; each row depends on its own seed alone."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def draw_tokens(
    logits: Tensor,
    numbers: Tensor,
    *,
    temperature: float,
    top_p: float,
    top_k: int | None = None,
    min_p: float = 0.0,
) -> Tensor:
    """Draws one token per row. `logits` are (rows, vocabulary), `numbers` (rows,) in [0, 1).

    Temperature 0 takes the likeliest token. The nucleus is the smallest set of likeliest tokens
    whose probability reaches `top_p` (Holtzman et al. 2020) of that of the tokens which `min_p` and
    `top_k` leave. Raises NonFiniteError.
    """
    highest, likeliest_tokens = logits.max(-1)
    if not bool(highest.isfinite().all()):  # NaN is the highest where there is one
        raise NonFiniteError(
            "the policy's logits are NaN or infinite",
            fix="see whether its weights are, or take"
            ' policy.dtype = "bfloat16" or "float32" in place of float16',
        )
    if temperature == 0.0:
        return likeliest_tokens
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_k is not None or min_p > 0.0:
        probabilities = _cut(probabilities, top_k, min_p)
    if top_p == 1.0:
        return _invert(probabilities, numbers)
    likeliest, tokens = _likeliest(probabilities, top_p)
    before = likeliest.double().cumsum(-1) - likeliest
    nucleus = likeliest.masked_fill(before >= top_p, 0.0)
    return tokens.gather(-1, _invert(nucleus, numbers).unsqueeze(-1)).squeeze(-1)


def _cut(probabilities: Tensor, top_k: int | None, min_p: float) -> Tensor:
    """Returns probabilities of the tokens that are left: first those of at least `min_p` times the
    highest (Nguyen et al. 2024), then the `top_k` likeliest and all as likely as the last of them.
    """
    highest = probabilities.amax(-1, keepdim=True)
    left = probabilities.masked_fill(probabilities < min_p * highest, 0.0)
    if top_k is not None and top_k < left.shape[-1]:
        last = left.topk(top_k, dim=-1).values[:, -1:]
        left = left.masked_fill(left < last, 0.0)
    return left / left.sum(-1, keepdim=True)


def _likeliest(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Returns probabilities in falling order and their tokens, enough of them to hold every
    nucleus.

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
    """Returns the first position where the cumulative weight exceeds its row's number times the
    total.
    """
    cumulative = weights.double().cumsum(-1)
    wanted = numbers.unsqueeze(-1) * cumulative[:, -1:]
    positions = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1)
    last = weights.shape[-1] - 1 - (weights.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum(positions, last)

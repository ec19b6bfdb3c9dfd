"""The distribution that a token is drawn from, one float at a time; how far counts are from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence


def plain_distribution(
    logits: Sequence[float],
    *,
    temperature: float = 1.0,
    min_p: float = 0.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    penalty: float = 1.0,
    seen: Collection[int] = (),
    banned: Collection[int] = (),
) -> dict[int, float]:
    """In vLLM's order: banned tokens, penalty, temperature, min_p, top_k, top_p."""
    scores = {token: logit for token, logit in enumerate(logits) if token not in banned}
    for token in set(seen) & scores.keys():
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    highest = max(scores.values())
    weights = {token: math.exp((s - highest) / temperature) for token, s in scores.items()}
    weights = {token: weight for token, weight in weights.items() if weight >= min_p}
    ranked = sorted(weights, key=lambda token: (-weights[token], token))
    if top_k is not None and top_k < len(ranked):
        last = weights[ranked[top_k - 1]]
        ranked = [token for token in ranked if weights[token] >= last]
    total = math.fsum(weights[token] for token in ranked)
    nucleus: list[int] = []
    for token in ranked:
        if math.fsum(weights[t] for t in nucleus) >= top_p * total:
            break
        nucleus.append(token)
    mass = math.fsum(weights[token] for token in nucleus)
    return {token: weights[token] / mass for token in nucleus}


def chi_square(drawn: Iterable[int], expected: Mapping[int, float]) -> tuple[float, float]:
    """The statistic, and the value that it is above in one of some 100,000 cases.

    The latter is Wilson and Hilferty's approximation at 4.3 standard deviations. A token outside
    `expected` makes the statistic infinite.
    """
    counts = Counter(drawn)
    if counts.keys() - expected.keys():
        return math.inf, 0.0
    number = counts.total()
    found = math.fsum(
        (counts[token] - number * share) ** 2 / (number * share)
        for token, share in expected.items()
    )
    free = max(1, len(expected) - 1)
    return found, free * (1 - 2 / (9 * free) + 4.3 * math.sqrt(2 / (9 * free))) ** 3

"""Owns the task: sort a few digits. `sort 4 1 3` wants `1 3 4`; anyone can check it at once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

MIN_DIGITS = 3
MAX_DIGITS = 6
VERB = "sort"


@dataclass(frozen=True)
class Problem:
    """Holds digits to sort, in the order given."""

    digits: tuple[int, ...]

    @property
    def prompt(self) -> str:
        return " ".join([VERB, *map(str, self.digits)])

    @property
    def answer(self) -> str:
        return " ".join(map(str, sorted(self.digits)))


def problems(seed: int, *, without: frozenset[Problem] = frozenset()) -> Iterator[Problem]:
    """Yields endless problems of different digits, the same for the same seed; none of
    `without`.
    """
    numbers = random.Random(seed)
    while True:
        count = numbers.randint(MIN_DIGITS, MAX_DIGITS)
        problem = Problem(tuple(numbers.sample(range(10), count)))
        if problem not in without:
            yield problem


def unique_problems(
    count: int, seed: int, *, without: frozenset[Problem] = frozenset()
) -> list[Problem]:
    """Returns `count` problems, no two the same."""
    found: dict[Problem, None] = {}
    for problem in problems(seed, without=without):
        found[problem] = None
        if len(found) == count:
            break
    return list(found)


def is_exact(answer: str, completion: str) -> bool:
    """Is the task's own checker: the completion is the answer and nothing else."""
    return completion.split() == answer.split()


def corrupt(answer: str, numbers: random.Random, *, num_errors: int) -> str:
    """Returns the answer with mistakes of the kinds that a policy makes; never the answer
    itself.
    """
    right = answer.split()
    digits = list(right)
    while num_errors > 0 or digits == right:
        digits = _with_mistake(digits, numbers)
        num_errors -= 1
    return " ".join(digits)


def _with_mistake(digits: list[str], numbers: random.Random) -> list[str]:
    """Makes one mistake: mostly a wrong digit in the right order; else one lost, one too many, or
    two swapped.
    """
    place = numbers.randrange(len(digits))
    other = str(numbers.randrange(10))
    kind = numbers.random()
    if kind < 0.5:
        return sorted([*digits[:place], other, *digits[place + 1 :]])
    if kind < 0.7 and len(digits) > 1:
        return [*digits[:place], *digits[place + 1 :]]
    if kind < 0.85 or len(digits) == 1:
        return sorted([*digits, other])
    swapped = list(digits)
    neighbour = (place + 1) % len(digits)
    swapped[place], swapped[neighbour] = digits[neighbour], digits[place]
    return swapped

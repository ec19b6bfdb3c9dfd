"""The order of prompts: pinned by an independent generator, and fair over whole epochs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import pytest
from halos_backend.store.prompt_order import (
    derived_seed,
    prompt_rows,
    round_size,
    rounds_to_come,
)
from hypothesis import example, given
from hypothesis import strategies as st

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=60)


class MersenneTwister:
    """MT19937 with seeding by array (Matsumoto and Nishimura, mt19937ar.c, 2002)."""

    def __init__(self, seed: int) -> None:
        key = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(1, seed.bit_length()), 32)]
        mt = [19650218]
        for i in range(1, 624):
            mt.append(1812433253 * (mt[-1] ^ mt[-1] >> 30) + i & 0xFFFFFFFF)
        i, j = 1, 0
        for _ in range(max(624, len(key))):
            mt[i] = (mt[i] ^ (mt[i - 1] ^ mt[i - 1] >> 30) * 1664525) + key[j] + j & 0xFFFFFFFF
            i, j = i + 1, (j + 1) % len(key)
            if i == 624:
                mt[0], i = mt[623], 1
        for _ in range(623):
            mt[i] = (mt[i] ^ (mt[i - 1] ^ mt[i - 1] >> 30) * 1566083941) - i & 0xFFFFFFFF
            i += 1
            if i == 624:
                mt[0], i = mt[623], 1
        mt[0] = 0x80000000
        self._words = self._generate(mt)

    def below(self, bound: int) -> int:
        """Uniform in 0..bound-1: the upper bits of a word, drawn again when too large."""
        bits = bound.bit_length()
        while (drawn := next(self._words) >> 32 - bits) >= bound:
            pass
        return drawn

    @staticmethod
    def _generate(mt: list[int]) -> Iterator[int]:
        while True:
            for i in range(624):
                y = mt[i] & 0x80000000 | mt[(i + 1) % 624] & 0x7FFFFFFF
                mt[i] = mt[(i + 397) % 624] ^ y >> 1 ^ (0x9908B0DF if y & 1 else 0)
            for y in mt:
                y ^= y >> 11
                y ^= y << 7 & 0x9D2C5680
                y ^= y << 15 & 0xEFC60000
                yield y ^ y >> 18


def independent_order(seed: int, num_prompts: int, epoch: int) -> list[int]:
    """Fisher-Yates from the end, with the generator above, seeded by SHA-256."""
    digest = hashlib.sha256(f"{seed}\x1fprompt order\x1f{epoch}".encode()).hexdigest()
    generator = MersenneTwister(int(digest[:16], 16) // 2)
    order = list(range(num_prompts))
    for last in range(num_prompts - 1, 0, -1):
        other = generator.below(last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def epoch_order(seed: int, num_prompts: int, epoch: int) -> list[int]:
    return prompt_rows(
        seed=seed, num_prompts=num_prompts, cursor=epoch * num_prompts, count=num_prompts
    )


@given(st.integers(-5, 2**40), st.integers(1, 300), st.integers(0, 5))
def test_the_order_is_that_of_an_independent_implementation(
    seed: int, num_prompts: int, epoch: int
) -> None:
    assert epoch_order(seed, num_prompts, epoch) == independent_order(seed, num_prompts, epoch)


def test_the_order_never_changes() -> None:
    """Written down once, from the independent implementation: a run of 2026 must resume in 2030."""
    assert epoch_order(0, 10, 0) == [4, 2, 7, 8, 9, 6, 1, 5, 0, 3]
    assert epoch_order(0, 10, 1) == [4, 3, 6, 9, 0, 5, 2, 1, 7, 8]
    assert epoch_order(42, 10, 0) == [4, 0, 6, 9, 7, 1, 3, 2, 5, 8]
    assert derived_seed(0, "prompt order", 0) == 8474062912714417069


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 3), SIZES)
def test_every_prompt_is_taken_once_an_epoch_whatever_the_sizes_of_rounds(
    seed: int, num_prompts: int, num_epochs: int, wanted: list[int]
) -> None:
    cursor, taken = 0, list[int]()
    index = 0
    while True:
        count = round_size(
            cursor=cursor,
            wanted=wanted[index % len(wanted)],
            num_prompts=num_prompts,
            num_epochs=num_epochs,
            budget=None,
        )
        if count == 0:
            break
        assert cursor // num_prompts == (cursor + count - 1) // num_prompts, "one epoch a round"
        rows = prompt_rows(seed=seed, num_prompts=num_prompts, cursor=cursor, count=count)
        assert len(set(rows)) == count
        taken += rows
        cursor, index = cursor + count, index + 1

    epochs = [taken[start : start + num_prompts] for start in range(0, len(taken), num_prompts)]
    assert len(epochs) == num_epochs
    assert all(Counter(epoch) == Counter(range(num_prompts)) for epoch in epochs)


@given(st.integers(1, 50), st.integers(1, 3), st.integers(0, 200), SIZES)
def test_rounds_stop_at_the_budget(
    num_prompts: int, num_epochs: int, budget: int, wanted: list[int]
) -> None:
    cursor = 0
    for size in wanted * (num_prompts * num_epochs):
        count = round_size(
            cursor=cursor,
            wanted=size,
            num_prompts=num_prompts,
            num_epochs=num_epochs,
            budget=budget,
        )
        if count == 0:
            break
        cursor += count

    assert cursor == min(budget, num_prompts * num_epochs)


@given(st.integers(-3, 10**6), st.integers(-3, 10**6))
def test_orders_differ_by_seed_and_epoch_and_are_equal_for_equal_ones(a: int, b: int) -> None:
    assert (epoch_order(a, 64, 0) == epoch_order(b, 64, 0)) == (a == b)
    assert epoch_order(a, 64, 0) != epoch_order(a, 64, 1)


def test_no_prompts_give_no_round() -> None:
    assert round_size(cursor=0, wanted=4, num_prompts=0, num_epochs=1, budget=None) == 0
    assert round_size(cursor=99, wanted=4, num_prompts=10, num_epochs=2, budget=None) == 0


TOTALS = [
    # cursor, rounds done, num_rounds, prompts_per_round, num_prompts, num_epochs, budget, total
    (0, 0, None, 4, 10, 1, None, 10),
    (0, 0, None, 4, 10, 3, None, 30),
    (0, 0, None, 4, 10, 3, 12, 12),
    (0, 0, 3, 4, 100, 1, None, 12),
    (8, 2, 3, 4, 100, 1, None, 12),
    (8, 2, 3, 16, 100, 1, None, 24),  # two rounds of 4, then one of 16
    (8, 2, 6, 1, 100, 1, None, 12),  # two rounds of 4, then four of 1
    (8, 2, 6, 16, 100, 1, None, 72),  # 8 + 4 * 16
    (8, 2, 6, 16, 100, 1, 50, 50),
    (8, 2, 60, 16, 100, 1, None, 100),
    (0, 0, 3, 4, 10, 2, None, 10),  # rounds of 4, 4, 2: a round ends with its epoch
    (4, 1, 4, 4, 10, 2, None, 14),  # 4, then 4, 2, 4
    (0, 0, 7, 4, 10, 3, None, 24),  # 4, 4, 2 and 4, 4, 2 and 4
    (12, 3, 2, 4, 100, 1, None, 12),  # fewer rounds wanted than are done
    (0, 0, 5, 4, 0, 1, None, 0),
]


@pytest.mark.parametrize(
    ("cursor", "rounds_done", "num_rounds", "wanted", "num_prompts", "epochs", "budget", "total"),
    TOTALS,
)
def test_the_prompts_of_a_run_are_those_taken_and_those_of_the_rounds_left(
    cursor: int,
    rounds_done: int,
    num_rounds: int | None,
    wanted: int,
    num_prompts: int,
    epochs: int,
    budget: int | None,
    total: int,
) -> None:
    found = rounds_to_come(
        cursor=cursor,
        rounds_done=rounds_done,
        num_rounds=num_rounds,
        prompts_per_round=wanted,
        num_prompts=num_prompts,
        num_epochs=epochs,
        budget=budget,
    )
    assert found[1] == total


@given(
    sizes=st.lists(st.integers(1, 9), max_size=6),
    rounds_left=st.integers(0, 30) | st.none(),
    wanted=st.integers(1, 12),
    num_prompts=st.integers(1, 20),
    num_epochs=st.integers(1, 4),
    budget=st.integers(1, 60) | st.none(),
)
@example(sizes=[], rounds_left=5, wanted=4, num_prompts=10, num_epochs=2, budget=None)
def test_the_expected_prompts_are_what_a_run_takes_round_by_round(
    sizes: list[int],
    rounds_left: int | None,
    wanted: int,
    num_prompts: int,
    num_epochs: int,
    budget: int | None,
) -> None:
    def next_size(cursor: int, size: int) -> int:
        return round_size(
            cursor=cursor, wanted=size, num_prompts=num_prompts, num_epochs=num_epochs,
            budget=budget,
        )  # fmt: skip

    before = 0
    for size in sizes:
        before += next_size(before, size)
    cursor, rounds = before, 0
    while (rounds_left is None or rounds < rounds_left) and (size := next_size(cursor, wanted)):
        cursor, rounds = cursor + size, rounds + 1

    found = rounds_to_come(
        cursor=before,
        rounds_done=len(sizes),
        num_rounds=None if rounds_left is None else len(sizes) + rounds_left,
        prompts_per_round=wanted,
        num_prompts=num_prompts,
        num_epochs=num_epochs,
        budget=budget,
    )
    assert found == (rounds, cursor)

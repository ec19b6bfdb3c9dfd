"""Owns what a case does: who is killed, and when. All of it follows from a seed and a number.

A case is the same whatever the number of cases, so one of a long run can be repeated alone.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from itertools import product

from halos_backend.events import STAGES, Stage

from tests.support.victims import Role

SEED = int(os.environ.get("SEED", "1"))
CASES = int(os.environ.get("CASES", "12"))
"""Runs of models with one kill each; most of the other cases are as many as there are."""
FAKES_PER_CASE = 4
"""Runs of fakes with one kill each, for each of them."""
BARE_PER_CASE = 10
"""Bare supervisors under kills at random, for each of them: these take a second, not twenty."""

ROUNDS = (1, 2)
VICTIMS: tuple[tuple[Role, ...], ...] = (
    ("stage",),
    ("supervisor",),
    ("guardian",),
    ("client",),
    ("guardian", "supervisor"),
    ("supervisor", "stage"),
    ("guardian", "supervisor", "stage"),
    ("client", "guardian", "supervisor", "stage"),
)
"""In the order in which they die: a guardian that outlives its supervisor starts another."""
IN_A_ROW = 10
"""Kills of one run."""
SHIFTS = (0, 2, 5)
"""Three rows with these hold ten kills in each stage, which are enough for all victims."""


@dataclass(frozen=True)
class Kill:
    """kill -9 of `victims` in a stage of a round.

    The moment is a share of the time that the stage took in the undisturbed run, or of the events
    that it wrote there: most of a short stage is loading.
    """

    victims: tuple[Role, ...]
    round: int
    stage: Stage
    share: float
    by_events: bool

    def __str__(self) -> str:
        unit = "events" if self.by_events else "time"
        return f"{'+'.join(self.victims)}-round{self.round}-{self.stage}-{self.share:.2f}of{unit}"


def single_kill(seed: int, number: int) -> Kill:
    """Every victim in every stage comes once before any comes again, then in the other round."""
    places = list(product(VICTIMS, STAGES))
    block, index = divmod(number, len(places))
    random.Random(f"{seed}/block/{block}").shuffle(places)
    victims, stage = places[index]
    first = random.Random(f"{seed}/round/{victims}/{stage}").choice(ROUNDS)
    draw = random.Random(f"{seed}/kill/{number}")
    round = ROUNDS[(ROUNDS.index(first) + block) % len(ROUNDS)]
    return Kill(victims, round, stage, draw.random(), draw.random() < 0.5)


def kills_in_a_row(seed: int, number: int) -> list[Kill]:
    """Kills of one run in the order of their moments; stages that crash twice are tried later.

    Every victim in every stage comes in rows 0, 1 and 2, and so on.
    """
    block, index = divmod(number, len(SHIFTS))
    places = list(product(ROUNDS, STAGES))
    rows = [
        [places[(i * len(places) + shift) // IN_A_ROW] for i in range(IN_A_ROW)] for shift in SHIFTS
    ]
    victims = {stage: _victims(seed, block, stage, rows) for stage in STAGES}
    for row in rows[:index]:
        for _, stage in row:
            victims[stage].pop()
    draw = random.Random(f"{seed}/row/{number}")
    return [
        Kill(victims[stage].pop(), round, stage, draw.random(), draw.random() < 0.5)
        for round, stage in rows[index]
    ]


def _victims(
    seed: int, block: int, stage: Stage, rows: list[list[tuple[int, Stage]]]
) -> list[tuple[Role, ...]]:
    """Victims for each kill in that stage: all of them, and some more by chance."""
    count = sum(kill_stage == stage for row in rows for _, kill_stage in row)
    draw = random.Random(f"{seed}/victims/{block}/{stage}")
    made = [*VICTIMS, *draw.choices(VICTIMS, k=count - len(VICTIMS))]
    draw.shuffle(made)
    return made

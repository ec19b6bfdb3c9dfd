"""Owns what a case does: who is killed, and when. All of it follows from a seed and a number.

A case is the same whatever the number of cases, so one of a long run can be repeated alone.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from itertools import product

from halos_backend.events import STAGES, Stage

from tests.chaos.victims import Role

SEED = int(os.environ.get("SEED", "1"))
CASES = int(os.environ.get("CASES", "12"))
"""Runs of real models with one kill each; the other cases are as many as there are."""
FAKES_PER_CASE = 10
"""Runs with fake stages for each run of a real model: they take a second, not twenty."""

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
    """Every victim in every stage of every round comes once before any comes again."""
    places = list(product(VICTIMS, ROUNDS, STAGES))
    block, index = divmod(number, len(places))
    random.Random(f"{seed}/block/{block}").shuffle(places)
    victims, round, stage = places[index]
    draw = random.Random(f"{seed}/kill/{number}")
    return Kill(victims, round, stage, draw.random(), draw.random() < 0.5)


def kills_in_a_row(seed: int, number: int, count: int) -> list[Kill]:
    """Kills of one run in the order of their moments; stages that crash twice are tried later."""
    draw = random.Random(f"{seed}/row/{number}")
    places = list(product(ROUNDS, STAGES))
    spread = [places[index * len(places) // count] for index in range(count)]
    return [
        Kill(draw.choice(VICTIMS), round, stage, draw.random(), draw.random() < 0.5)
        for round, stage in spread
    ]

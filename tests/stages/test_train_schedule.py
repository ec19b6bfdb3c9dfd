"""Learning rates as a function of progress."""

from __future__ import annotations

import pytest
from halos_backend.stages.train.optimizer import Schedule, schedule_factor, step_progress


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("constant", 0.05, 0.5),
        ("constant", 0.1, 1.0),
        ("constant", 1.0, 1.0),
        ("linear", 0.05, 0.5),
        ("linear", 0.1, 1.0),
        ("linear", 0.55, 0.5),
        ("linear", 1.0, 0.0),
        ("cosine", 0.1, 1.0),
        ("cosine", 0.4, 0.75),
        ("cosine", 0.55, 0.5),
        ("cosine", 1.0, 0.0),
    ],
)
def test_schedule_rises_over_the_warm_up_and_then_decays(
    schedule: Schedule, progress: float, expected: float
) -> None:
    factor = schedule_factor(schedule=schedule, progress=progress, warmup_frac=0.1)
    assert factor == pytest.approx(expected, abs=1e-12)


def test_without_warm_up_the_first_factor_is_one() -> None:
    assert schedule_factor(schedule="linear", progress=0.0, warmup_frac=0.0) == 1.0


def test_progress_over_the_run_covers_the_rounds_part_of_it() -> None:
    values = [
        step_progress(step=step, num_steps=4, scope="run", start=0.5, end=0.75)
        for step in (1, 2, 3, 4)
    ]
    assert values == pytest.approx([0.53125, 0.59375, 0.65625, 0.71875])


def test_progress_over_the_round_ignores_the_run() -> None:
    assert step_progress(step=1, num_steps=2, scope="round", start=0.5, end=0.75) == 0.25

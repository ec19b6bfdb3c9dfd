"""Runs with something to draw: rewards by round, and a loss by step of each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from halos_backend.events import STAGES, MetricsLogged, Stage

from tests.support.made_run import STARTED_T, MadeRun

REWARDS = (0.5, 0.25, 1.0)


def trained_run(root: Path, name: str = "a-run", rewards: Sequence[float] = REWARDS) -> MadeRun:
    """Round n has the losses n, n/2 and n/4, at the steps 1, 2 and 3; some figures grow with it."""
    run = MadeRun(root, name)
    for round, reward in enumerate(rewards, start=1):
        grown: dict[Stage, dict[str, float]] = {
            "sample": {"length_mean": 4.0 + round},
            "label": {"reward_mean": reward, "reward_std": 0.5, "reward_stderr": 0.125},
            "train": {"kl_initial": 0.05 * round, "implicit_reward_margin": 0.25 * round},
        }
        run.start_round(round)
        for stage in STAGES:
            run.start_stage(round, stage)
            run.finish_stage(round, stage, **grown[stage])
        run.finish_round(round, reward_mean=reward)
        for step in (1, 2, 3):
            log_step(run, round, step, {"loss": round / 2 ** (step - 1), "lr": 0.5})
    return run


def log_step(run: MadeRun, round: int, step: int, metrics: Mapping[str, float]) -> None:
    event = MetricsLogged(
        t=STARTED_T + step, round=round, stage="train", attempt=1, step=step, metrics=dict(metrics)
    )
    with run.dir.attempt(round, "train", 1).events.open("ab") as file:
        file.write(msgspec.json.encode(event) + b"\n")

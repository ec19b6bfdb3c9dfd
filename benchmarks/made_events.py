"""Makes what a made-up run says: its journal, those of its attempts, readings of its machine."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    STAGES,
    AttemptEvent,
    MetricsLogged,
    PhaseChanged,
    ProcessIdentity,
    Progressed,
    RoundFinished,
    RoundStarted,
    RunCreated,
    RunEvent,
    Stage,
    StageFinished,
    StageStarted,
    SupervisorStarted,
)
from halos_backend.telemetry.reading import HostReading, Reading

GONE = ProcessIdentity(pid=4_000_000, start_time=1.0, boot_id="an earlier boot", host="elsewhere")
STAGE_S = 4.0
ROUND_S = 3 * STAGE_S
PHASES = {"sample": "generating", "label": "scoring", "train": "training"}
UNITS = {"sample": "completions", "label": "completions", "train": "steps"}
NUM_BINS = 20
GIB = 1 << 30


@dataclass(frozen=True)
class Shape:
    """Says how big a run is. Each of the last `num_kept` rounds has `num_groups` groups of 8 on
    disk.

    A run that is not complete has `num_planned` rounds in all.
    """

    num_rounds: int = 20
    num_steps: int = 8
    num_progressed: int = 5
    num_groups: int = 0
    num_kept: int = 1
    num_readings: int = 60
    num_planned: int = 0

    @property
    def num_attempt_events(self) -> int:
        return self.num_rounds * (2 * (1 + self.num_progressed) + 1 + 2 * self.num_steps)


def make_settings(shape: Shape) -> dict[str, Any]:
    tables = {
        "policy": {"path": "/models/policy"},
        "prompts": {"path": "/data/prompts.jsonl"},
        "loop": {
            "num_rounds": max(shape.num_rounds, shape.num_planned),
            "prompts_per_round": 128,
        },
        "label": {
            "judge": {"kind": "function", "function": "judge.py:reward"},
            "feedback": {"kind": "pairwise"},
        },
        "train": {"loss": {"kind": "dpo"}},
        "launch": {"num_threads": 1},
    }
    return RunSettings.model_validate(tables).model_dump(mode="json")


def beginning(name: str, settings: dict[str, Any], shape: Shape, *, t: float) -> list[RunEvent]:
    created = RunCreated(
        t=t,
        schema_version=1,
        run=name,
        version="0.1.0",
        settings=settings,
        num_prompts=128 * max(shape.num_rounds, shape.num_planned),
        num_too_long=0,
        prompts_sha256="p",
        policy_sha256="q",
        checkpoint_bytes=10 * GIB,
    )
    return [
        created,
        SupervisorStarted(t=t, generation=1, process=GONE, version="0.1.0"),
    ]


def round_events(
    numbers: random.Random, round: int, t: float, settings: dict[str, Any], shape: Shape
) -> list[RunEvent]:
    """Makes the run's journal of a round: its start, its three stages, its end.

    The last two events are the ends of its train stage and of the round.
    """
    started = RoundStarted(
        t=t, round=round, cursor=128 * (round - 1), num_prompts=128, settings=settings
    )
    events: list[RunEvent] = [started]
    for number, stage in enumerate(STAGES):
        about: dict[str, Any] = {"round": round, "stage": stage, "attempt": 1}
        begun = t + number * STAGE_S
        events.append(StageStarted(t=begun, process=GONE, command=["true"], **about))
        summary = make_summary(numbers, stage, round, shape)
        ended = begun + STAGE_S
        events.append(StageFinished(t=ended, elapsed_s=STAGE_S, summary=summary, **about))
    path = f"rounds/{round:04d}/train/attempt_1/checkpoint"
    metrics = {"reward_mean": reward_mean(round)}
    events.append(RoundFinished(t=t + ROUND_S, round=round, checkpoint=path, metrics=metrics))
    return events


def make_summary(numbers: random.Random, stage: Stage, round: int, shape: Shape) -> dict[str, Any]:
    match stage:
        case "sample":
            return {
                "num_prompts": 128,
                "num_completions": 1024,
                "num_tokens": 5676,
                "tokens_per_s": 16_000 + numbers.random(),
                "length_mean": 5.5,
                "truncated_frac": 0.01,
                "unique_frac": 0.64,
                "elapsed_s": STAGE_S,
            }
        case "label":
            return label_summary(numbers, round)
        case "train":
            return {
                "num_steps": shape.num_steps,
                "num_examples": 128,
                "loss_first": 0.6931,
                "loss_last": 0.5 + numbers.random() / 10,
                "implicit_reward_margin": 0.1 * numbers.random(),
                "implicit_reward_accuracy": 0.9,
                "kl_initial": 0.001 * round,
                "grad_norm_mean": 0.4 + numbers.random() / 10,
                "lr_last": 5e-6,
                "elapsed_s": STAGE_S,
            }


def label_summary(numbers: random.Random, round: int) -> dict[str, Any]:
    mean = reward_mean(round)
    quantiles = {"q05": -1.6, "q25": -0.7, "q50": 0.0, "q75": 0.7, "q95": 1.6}
    return {
        "num_completions": 1024,
        "num_unscored": 0,
        "unscored_reasons": {},
        "reward_mean": mean,
        "reward_std": 1.0,
        "reward_stderr": 0.125,
        "reward_min": mean - 3.0,
        "reward_max": mean + 3.0,
        **{f"reward_{name}": mean + value for name, value in quantiles.items()},
        "reward_histogram": {
            "edges": [mean - 3.0 + 6.0 * i / NUM_BINS for i in range(NUM_BINS + 1)],
            "counts": [numbers.randrange(10, 100) for _ in range(NUM_BINS)],
        },
        "reward_length_corr": 0.05,
        "num_feedback": 128,
        "num_pairs_kept": 128,
        "num_pairs_dropped": 0,
        "elapsed_s": STAGE_S,
    }


def reward_mean(round: int) -> float:
    """Returns a reward that rises, ever more slowly."""
    return 2.0 - 3.0 * math.exp(-round / 30)


def attempt_events(
    numbers: random.Random, round: int, stage: Stage, t: float, shape: Shape
) -> list[AttemptEvent]:
    """Makes the whole journal of one attempt."""
    about: dict[str, Any] = {"round": round, "stage": stage, "attempt": 1}
    events: list[AttemptEvent] = [PhaseChanged(t=t, phase=PHASES[stage], **about)]
    if stage == "train":
        for step in range(1, shape.num_steps + 1):
            events += step_events(numbers, round, step, shape.num_steps, t + step * 0.2)
        return events
    total = 1024
    for number in range(shape.num_progressed):
        done = total * (number + 1) // shape.num_progressed
        events.append(Progressed(t=t + number, done=done, total=total, unit=UNITS[stage], **about))
    return events


def step_events(
    numbers: random.Random, round: int, step: int, total: int, t: float
) -> list[AttemptEvent]:
    """Makes what one optimizer step says."""
    about: dict[str, Any] = {"t": t, "round": round, "stage": "train", "attempt": 1}
    margin = 0.1 * (1 - math.exp(-step / 50)) + numbers.random() / 50
    metrics = {
        "loss": 0.6931 - margin,
        "grad_norm": 0.4 + numbers.random() / 10,
        "implicit_reward_chosen": margin / 2,
        "implicit_reward_rejected": -margin / 2,
        "implicit_reward_accuracy": 0.5 + margin,
        "implicit_reward_margin": margin,
        "kl_k3": margin / 10,
        "lr": 5e-6,
        "num_tokens": 500.0,
        "tokens_per_s": 15_000 + numbers.random(),
    }
    return [
        MetricsLogged(step=step, metrics=metrics, **about),
        Progressed(done=step, total=total, unit="steps", **about),
    ]


def readings(numbers: random.Random, count: int, *, t: float) -> list[Reading]:
    """Makes readings of the host, two seconds apart, the last one at about `t`."""
    return [
        Reading(
            t=t - 2.0 * (count - 1 - number),
            host=HostReading(
                cpu_frac=0.4 + 0.2 * numbers.random(),
                load_1min=1.5,
                memory_used_bytes=8 * GIB + numbers.randrange(GIB),
                memory_available_bytes=20 * GIB,
                memory_total_bytes=32 * GIB,
                disk_free_bytes=100 * GIB,
                disk_total_bytes=500 * GIB,
            ),
        )
        for number in range(count)
    ]

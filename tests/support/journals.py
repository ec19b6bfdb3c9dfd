"""Settings, events and whole journals for the tests of the store and the supervisor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from halos_backend.config.guards import with_default_guards
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    STAGES,
    CheckpointPruned,
    ProcessIdentity,
    RoundFinished,
    RoundStarted,
    RunCompleted,
    RunCreated,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
    Stage,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStarted,
    SupervisorStarted,
)

PROCESS = ProcessIdentity(pid=4_000_000, start_time=12.25, boot_id="another boot", host="elsewhere")
NUM_PROMPTS = 12


def settings(
    loss: str = "dpo",
    *,
    reference: str = "initial",
    launch: Mapping[str, Any] | None = None,
    guards: Mapping[str, Any] | None = None,
    notify: Mapping[str, Any] | None = None,
    **loop: Any,
) -> RunSettings:
    """Resolved settings of a run of three rounds of four prompts; `loop` replaces that table's."""
    return RunSettings.model_validate(
        {
            "policy": {"path": "/models/policy"},
            "prompts": {"path": "/data/prompts.jsonl"},
            "loop": {"num_rounds": 3, "prompts_per_round": 4, **loop},
            "label": {
                "judge": {"kind": "function", "function": "judge.py:reward"},
                "feedback": {"kind": "pairwise"},
            },
            "train": {"loss": {"kind": loss}, "reference": reference},
            "launch": {"num_threads": 1, **(launch or {})},
            "guards": with_default_guards(guards),
            "notify": notify or {},
        }
    )


def summary(stage: Stage, **changes: Any) -> dict[str, Any]:
    """The part of a stage's summary that the supervisor reads."""
    made: dict[str, dict[str, Any]] = {
        "sample": {"num_prompts": 4, "num_completions": 8, "length_mean": 5.0},
        "label": {
            "num_completions": 8,
            "num_unscored": 0,
            "num_feedback": 4,
            "reward_mean": 0.5,
            "reward_std": 0.1,
        },
        "train": {"num_steps": 2, "loss_last": 0.6, "kl_initial": 0.01},
    }
    return {**made[stage], **changes}


def checkpoint_path(round: int, attempt: int = 1) -> str:
    return f"rounds/{round:04d}/train/attempt_{attempt}/checkpoint"


def created(made: RunSettings, *, num_prompts: int = NUM_PROMPTS) -> RunCreated:
    return RunCreated(
        t=1.0,
        schema_version=1,
        run="a-run",
        version="0.1.0",
        settings=made.model_dump(mode="json"),
        num_prompts=num_prompts,
        num_too_long=0,
        prompts_sha256="p",
        policy_sha256="q",
        checkpoint_bytes=10,
    )


def supervised(generation: int = 1) -> SupervisorStarted:
    return SupervisorStarted(t=2.0, generation=generation, process=PROCESS, version="0.1.0")


def round_started(round: int, made: RunSettings, *, cursor: int | None = None) -> RoundStarted:
    return RoundStarted(
        t=3.0,
        round=round,
        cursor=4 * (round - 1) if cursor is None else cursor,
        num_prompts=4,
        settings=made.model_dump(mode="json"),
    )


def started(round: int, stage: Stage, attempt: int = 1) -> StageStarted:
    return StageStarted(
        t=4.0, round=round, stage=stage, attempt=attempt, process=PROCESS, command=["true"]
    )


def finished(round: int, stage: Stage, attempt: int = 1, **changes: Any) -> StageFinished:
    return StageFinished(
        t=5.0,
        round=round,
        stage=stage,
        attempt=attempt,
        elapsed_s=1.0,
        summary=summary(stage, **changes),
    )


def failed(round: int, stage: Stage, attempt: int = 1, reason: str = "broken") -> StageFailed:
    return StageFailed(
        t=5.0,
        round=round,
        stage=stage,
        attempt=attempt,
        reason=reason,
        exit_code=1,
        last_lines=[],
    )


def round_finished(round: int, attempt: int = 1, untrained: str | None = None) -> RoundFinished:
    checkpoint = None if untrained else checkpoint_path(round, attempt)
    return RoundFinished(t=6.0, round=round, checkpoint=checkpoint, metrics={}, untrained=untrained)


def whole_round(
    round: int, made: RunSettings, *, reward_mean: float | None = 0.5, trained: bool = True
) -> Iterator[RunEvent]:
    """The events of one round without trouble; untrained when no feedback is left."""
    yield round_started(round, made)
    for stage in STAGES:
        if stage == "train" and not trained:
            break
        yield started(round, stage)
        changes: dict[str, Any] = {"reward_mean": reward_mean, "num_feedback": 4 if trained else 0}
        yield finished(round, stage, **(changes if stage == "label" else {}))
    yield round_finished(round, untrained=None if trained else "no feedback is left")


def eventful_journal(made: RunSettings) -> list[RunEvent]:
    """Three rounds with a failure, a resume, an adoption, a pause and pruning."""
    return [
        created(made),
        supervised(1),
        round_started(1, made),
        started(1, "sample"),
        finished(1, "sample"),
        started(1, "label"),
        failed(1, "label"),
        RunFailed(t=7.0, reason="broken"),
        supervised(2),
        RunResumed(t=8.0),
        started(1, "label", 2),
        StageAdopted(t=8.5, round=1, stage="label", attempt=2, process=PROCESS),
        finished(1, "label", 2),
        started(1, "train"),
        finished(1, "train"),
        round_finished(1),
        round_started(2, made),
        started(2, "sample"),
        failed(2, "sample", reason="interrupted"),
        RunPaused(t=9.0, reason="interrupted"),
        supervised(3),
        RunResumed(t=9.5),
        started(2, "sample", 2),
        finished(2, "sample", 2),
        started(2, "label"),
        finished(2, "label"),
        started(2, "train"),
        finished(2, "train"),
        round_finished(2),
        CheckpointPruned(
            t=9.7, round=1, path="rounds/0001/train/attempt_1/trainer_state", freed_bytes=1
        ),
        *whole_round(3, made),
        RunCompleted(t=10.0, reason="all 3 rounds are done"),
    ]

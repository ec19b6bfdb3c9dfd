"""One plain line for every event of the run journal, and for the warnings of stages."""

from __future__ import annotations

import sys
from typing import Any

from halos_backend.events import (
    AbortRequested,
    AttemptEvent,
    CheckpointPruned,
    RequestRejected,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunCreated,
    RunEvent,
    RunFailed,
    RunPaused,
    RunResumed,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStarted,
    SupervisorStarted,
    Warned,
)

from halos_tui.formatting import (
    clock_time,
    count,
    duration,
    number,
    percent,
    plural,
    rate,
    signed,
    size,
    visible,
)
from halos_tui.rounds import reward_changes
from halos_tui.tailing import RunTail


class Lines:
    """Writes the lines to standard output, each as soon as it is there."""

    def show(self, events: list[RunEvent | AttemptEvent], tail: RunTail) -> None:
        for event in events:
            if (text := describe(event, tail)) is not None:
                sys.stdout.write(f"{clock_time(event.t)}  {visible(text)}\n")
        sys.stdout.flush()

    def hide(self) -> None:
        """Nothing to put away before somebody is asked something."""

    def close(self) -> None:
        sys.stdout.flush()


def describe(event: RunEvent | AttemptEvent, tail: RunTail) -> str | None:
    """What happened, in a line; None for what only live views show."""
    match event:
        case StageStarted() | StageAdopted() | StageFinished() | StageFailed() | Warned():
            where = f"round {event.round} {event.stage}"
            again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
            return f"{where}{again}: {_about_stage(event)}"
        case RoundStarted() | RoundFinished():
            return f"round {event.round}: {_about_round(event, tail)}"
        case RunCreated() | SupervisorStarted() | CheckpointPruned() | RequestRejected():
            return _about_upkeep(event)
        case AbortRequested():
            return "abort requested"
        case RunPaused(reason=reason):
            return f"run paused: {reason}"
        case RunAborted():
            return "run aborted"
        case RunFailed(reason=reason):
            return f"run failed: {reason}"
        case RunResumed():
            return "run goes on"
        case RunCompleted(reason=reason):
            return f"run completed: {reason}"
        case _:
            return None


def _about_stage(
    event: StageStarted | StageAdopted | StageFinished | StageFailed | Warned,
) -> str:
    match event:
        case StageStarted(process=process):
            return f"started, process {process.pid}"
        case StageAdopted(process=process):
            return f"still running, process {process.pid}"
        case StageFailed(reason=reason):
            return f"failed: {reason}"
        case Warned(text=text):
            return f"warning: {text}"
        case StageFinished():
            return f"{_summary(event)} in {duration(event.elapsed_s)}"


def _summary(event: StageFinished) -> str:
    found = event.summary
    match event.stage:
        case "sample":
            parts = [
                f"{count(found.get('num_completions'))} completions of"
                f" {number(found.get('length_mean'))} tokens",
                f"{percent(found.get('truncated_frac'))} cut off",
                rate(found.get("tokens_per_s"), "tokens"),
            ]
        case "label":
            parts = [
                f"reward {number(found.get('reward_mean'))} ± {number(found.get('reward_std'))}",
                f"{count(found.get('num_feedback'))} rows of feedback",
            ]
            if found.get("num_unscored"):
                parts.append(f"{count(found['num_unscored'])} unscored{_reasons(found)}")
        case "train":
            parts = [
                plural(found.get("num_steps", 0), "step"),
                f"loss {number(found.get('loss_first'))} to {number(found.get('loss_last'))}",
                f"KL {number(found.get('kl_initial'))}",
            ]
    return ", ".join(parts)


def _reasons(summary: dict[str, Any]) -> str:
    reasons = summary.get("unscored_reasons") or {}
    return f" ({'; '.join(f'{n} x {reason}' for reason, n in reasons.items())})" if reasons else ""


def _about_round(event: RoundStarted | RoundFinished, tail: RunTail) -> str:
    match event:
        case RoundStarted(num_prompts=num_prompts):
            return plural(num_prompts, "prompt")
        case RoundFinished(untrained=str(reason)):
            return f"finished, policy unchanged: {reason}"
        case RoundFinished():
            change = reward_changes(tail.state)[event.round - 1]
            mean = event.metrics.get("reward_mean")
            shown = "" if change is None else f" ({signed(change)})"
            return f"finished, reward {number(mean)}{shown}, checkpoint {event.checkpoint}"


def _about_upkeep(
    event: RunCreated | SupervisorStarted | CheckpointPruned | RequestRejected,
) -> str:
    match event:
        case RunCreated(run=run, num_prompts=num_prompts, num_too_long=num_too_long):
            skipped = f", {count(num_too_long)} too long and skipped" if num_too_long else ""
            return f"run {run} created: {plural(num_prompts, 'prompt')}{skipped}"
        case SupervisorStarted(process=process):
            return f"supervisor started, process {process.pid}"
        case CheckpointPruned(path=path, freed_bytes=freed_bytes):
            return f"deleted {path}, {size(freed_bytes)}"
        case RequestRejected(reason=reason):
            return f"request refused: {reason}"

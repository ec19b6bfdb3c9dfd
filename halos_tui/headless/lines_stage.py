"""Words for what happens to a stage, and for what comes of it."""

from __future__ import annotations

from typing import Any

from halos_backend.events import (
    Cause,
    StageAdopted,
    StageDelayed,
    StageEvent,
    StageFailed,
    StageFinished,
    StageStalled,
    StageStarted,
    Warned,
)
from halos_backend.store.reward_change import number_of
from halos_backend.store.round_state import StageState
from halos_backend.store.state import RunState

from halos_tui.formatting import ABSENT, count, duration, measured, number, percent, plural, rate
from halos_tui.run.rounds import about_cut_off, kl_initial

LOG_LINES = 10
WORDS_FOR_CAUSE: dict[Cause, str] = {
    "damaged": "its output is damaged",
    "lost": "lost",
    "stalled": "stalled",
    "out_of_memory": "out of memory",
    "non_finite": "not finite",
    "missing_input": "an input is missing",
    "no_space": "the disk is full",
    "other_policy": "another policy's samples",
    "refused": "refused",
}
"""What a reason alone does not always say."""


def describe_stage_event(event: StageEvent, state: RunState) -> str | None:
    """What happened, without saying to which stage; None for what only live views show.

    `state` is the newest known, which may be later than the event.
    """
    match event:
        case StageStarted(process=process):
            return f"started, process {process.pid}"
        case StageAdopted(process=process):
            return f"still running, process {process.pid}"
        case StageDelayed(reason=reason):
            return f"waits: {reason}"
        case StageStalled(silent_s=silent_s, phase=phase):
            return f"stalled: no sign of life for {duration(silent_s)} while {phase}; it is stopped"
        case StageFailed():
            return _failure(event, state)
        case StageFinished():
            return f"{_summary(event)} in {duration(event.elapsed_s)}"
        case Warned(text=text):
            return f"warning: {text}"
        case _:
            return None


def log_lines(event: StageEvent, state: RunState) -> list[str]:
    """The end of a failed attempt's output, where its owner has to see to it."""
    if isinstance(event, StageFailed) and _waits_for_owner(event, state):
        return [f"| {line}" for line in event.last_lines[-LOG_LINES:]]
    return []


def _failure(event: StageFailed, state: RunState) -> str:
    if event.cause == "stopped":
        if state.status in ("aborting", "aborted"):
            return "aborted"
        return f"stopped: {event.reason}"
    cause = "" if event.cause not in WORDS_FOR_CAUSE else f" ({WORDS_FOR_CAUSE[event.cause]})"
    return f"failed{cause}: {event.reason}{_what_next(event, state)}"


def _what_next(event: StageFailed, state: RunState) -> str:
    from halos_backend.supervisor.plan import retry_delay_s  # pydantic: 0.1 s, paid by failures

    stage = _newest(event, state)
    if stage is None or state.status in ("aborting", "aborted"):
        return ""
    if _waits_for_owner(event, state):
        return "; it waits for its owner"
    if event.stage == "label" and _is_sampling(event, state):
        return "; it is tried again when sampling is done"
    what = "the round is sampled anew" if event.cause == "other_policy" else "it is tried again"
    if _is_past(event, stage) or stage.failed_t is None:
        return f"; {what}"
    delay_s = retry_delay_s(stage.num_barren)
    return f"; {what} {f'in {duration(delay_s)}' if delay_s else 'at once'}"


def _waits_for_owner(event: StageFailed, state: RunState) -> bool:
    """Whether the supervisor leaves it at that, as far as event and state tell."""
    from halos_backend.supervisor.plan import WAIT_FOR_OWNER, waits_for_owner

    stage = _newest(event, state)
    if stage is None:
        return event.cause in WAIT_FOR_OWNER
    if event.cause == "stopped" or _is_past(event, stage):
        return False
    if waits_for_owner(stage):
        return True
    loop = state.rounds[event.round - 1].settings.get("loop", {})
    most = loop.get("max_attempts")
    return state.status == "failed" or (most is not None and stage.num_barren >= most)


def _newest(event: StageFailed, state: RunState) -> StageState | None:
    """The stage that another attempt is made of."""
    if not 1 <= event.round <= len(state.rounds):
        return None
    stage = "sample" if event.cause == "other_policy" else event.stage
    return state.rounds[event.round - 1].stages.get(stage)


def _is_sampling(event: StageFailed, state: RunState) -> bool:
    sample = state.rounds[event.round - 1].stages.get("sample")
    return sample is not None and sample.status == "running"


def _is_past(event: StageFailed, stage: StageState) -> bool:
    """Whether a newer attempt has begun since, of this stage or of the sampling that it blames."""
    is_newer = stage.stage == event.stage and stage.attempt > event.attempt
    return is_newer or stage.status != "failed"


def _summary(event: StageFinished) -> str:
    found = event.summary
    match event.stage:
        case "sample":
            parts = [
                f"{count(found.get('num_completions'))} completions of"
                f" {number(found.get('length_mean'))} tokens on average",
                f"{percent(found.get('truncated_frac'))} cut off",
                rate(found.get("tokens_per_s"), "tokens"),
            ]
        case "label":
            parts = [
                f"{_reward(found)}, spread {number(found.get('reward_std'))}",
            ]
            if (num_rows := found.get("num_feedback")) is not None:
                parts.append(f"{count(num_rows)} rows of feedback")
            if found.get("num_unscored"):
                parts.append(f"{count(found['num_unscored'])} unscored{_reasons(found)}")
            if equal := found.get("num_equal_groups"):
                parts.append(f"{plural(equal, 'group')} of equal rewards")
            if cut_off := about_cut_off(found):
                parts.append(cut_off)
        case "train" if found.get("untrained"):
            parts = [f"nothing to train on: {found['untrained']}"]
        case "train":
            parts = [
                plural(found.get("num_steps", 0), "step"),
                f"loss {number(found.get('loss_first'))} to {number(found.get('loss_last'))}",
                f"KL {kl_initial(found)}",
            ]
            if masked := found.get("num_masked"):
                parts.append(f"{count(masked)} cut off and masked")
    return ", ".join(parts)


def _reward(label: dict[str, Any]) -> str:
    mean = number_of(label.get("reward_mean"))
    if mean is None:
        return f"reward {ABSENT}"
    return f"reward {measured(mean, number_of(label.get('reward_stderr')))}"


def _reasons(summary: dict[str, Any]) -> str:
    reasons = summary.get("unscored_reasons") or {}
    return f" ({'; '.join(f'{n} x {reason}' for reason, n in reasons.items())})" if reasons else ""

"""Words every event of a run journal, and the warnings of stages, as one plain line each.

One part words what happens to a run and its rounds; the other what happens to a stage, and what
comes of it.
"""

from __future__ import annotations

import sys
from typing import assert_never

from halos_backend.events import (
    AbortRequested,
    AttemptEvent,
    Cause,
    CheckpointPruned,
    GuardTripped,
    PauseRequested,
    RequestRejected,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunCreated,
    RunEvent,
    RunExtended,
    RunFailed,
    RunPaused,
    RunResumed,
    SettingsChanged,
    StageAdopted,
    StageDelayed,
    StageEvent,
    StageFailed,
    StageFinished,
    StageStalled,
    StageStarted,
    SupervisorStarted,
    VersionsChanged,
    Warned,
    WorkerReplaced,
    WorkersChosen,
)
from halos_backend.events.summaries import LabelSummary, SampleSummary, TrainSummary, as_summary
from halos_backend.store.round_state import (
    WAIT_FOR_OWNER,
    StageState,
    retry_delay_s,
    waits_for_owner,
)
from halos_backend.store.standard_error import reward_in, reward_of
from halos_backend.store.state import RunState

from halos_tui.formatting import (
    ABSENT,
    aligned,
    clock_time,
    count,
    duration,
    measured,
    percent,
    plural,
    rate,
    setting_changes,
    size,
    visible,
)
from halos_tui.tracking.rounds import (
    FINAL,
    about_cut_off,
    about_judge,
    describe_reward,
    final_score,
    kl_initial,
    place,
    reward_change_in_words,
    reward_changes,
)
from halos_tui.tracking.run_tail import RunTail
from halos_tui.tracking.status import SeenStatus, describe_restart, describe_workers

RequestNews = (
    PauseRequested
    | AbortRequested
    | SettingsChanged
    | RunExtended
    | RunResumed
    | RequestRejected
    | GuardTripped
)
UpkeepNews = (
    RunCreated
    | SupervisorStarted
    | VersionsChanged
    | CheckpointPruned
    | WorkerReplaced
    | WorkersChosen
)
EndNews = RunPaused | RunAborted | RunFailed | RunCompleted
RunNews = RequestNews | UpkeepNews | EndNews | RoundStarted | RoundFinished

BOUNDARIES = {
    "now": "now",
    "stage": "when the running stage is done",
    "round": "at the end of the round",
}
CONSEQUENCES_OF_GUARD = {
    "pause": "the run pauses",
    "abort": "the run is aborted",
    "warn": "only a warning",
}

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
    "over_budget": "the judge's budget",
    "refused": "refused",
}
"""These words add what a reason alone does not always say."""


class Lines:
    """Writes the lines to standard output, each as soon as it is there."""

    def show(
        self,
        events: list[RunEvent | AttemptEvent],
        tail: RunTail,
        *,
        status: SeenStatus,  # noqa: ARG002
    ) -> None:
        for event in events:
            for text in describe(event, tail):
                sys.stdout.write(f"{clock_time(event.t)}  {visible(text)}\n")
        sys.stdout.flush()

    def hide(self) -> None:
        """Does nothing: there is nothing to put away before a question."""

    def close(self) -> None:
        sys.stdout.flush()


def describe(event: RunEvent | AttemptEvent, tail: RunTail) -> list[str]:
    """Words an event: one line, none for what only live views show, more where a log's end
    helps.
    """
    if not isinstance(event, StageEvent):
        return [describe_run_event(event, tail.state)]
    text = describe_stage_event(event, tail.state)
    if text is None:
        return []
    where = f"{place(tail.state, event.round)} {event.stage}"
    again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    return [f"{where}{again}: {line}" for line in (text, *log_lines(event, tail.state))]


def describe_run_event(event: RunNews, state: RunState) -> str:
    """Words an event in a line. `state` is the newest known, which may be later than the event."""
    match event:
        case RoundStarted() | RoundFinished():
            return _about_round(event, state)
        case RunPaused(reason=reason):
            return f"run paused: {reason}"
        case RunAborted():
            return "run aborted"
        case RunFailed(reason=reason):
            return f"run failed: {reason}"
        case RunCompleted(reason=reason):
            return f"run completed: {reason}"
        case (
            RunCreated()
            | SupervisorStarted()
            | VersionsChanged()
            | CheckpointPruned()
            | WorkerReplaced()
            | WorkersChosen()
        ):
            return _about_upkeep(event)
        case _:
            return _about_request(event)


def by_whom(by: str) -> str:
    return f" (by {by})" if by else ""


def _about_request(event: RequestNews) -> str:
    match event:
        case PauseRequested(at=at):
            return f"pausing {BOUNDARIES[at]}"
        case AbortRequested(when=when):
            return f"aborting {BOUNDARIES[when]}"
        case SettingsChanged(from_round=from_round, consequences=consequences):
            changed = f"{setting_changes(event.changes)} from round {from_round}"
            return "; ".join([f"{changed}{by_whom(event.by)}", *consequences])
        case RunExtended(num_rounds=num_rounds):
            changed = f": {setting_changes(event.changes)}" if event.changes else ""
            return f"run extended to {plural(num_rounds, 'round')}{changed}{by_whom(event.by)}"
        case RunResumed():
            return "run goes on"
        case RequestRejected(reason=reason):
            return f"request refused: {reason}"
        case GuardTripped(guard=guard, reason=reason, action=action):
            where = f"round {event.round}{f' {event.stage}' if event.stage else ''}"
            return f"{where}: guard {guard} tripped: {reason}; {CONSEQUENCES_OF_GUARD[action]}"
        case _:
            assert_never(event)


def _about_round(event: RoundStarted | RoundFinished, state: RunState) -> str:
    where = f"round {event.round}"
    match event:
        case RoundStarted(closing=str(prompts), num_prompts=num_prompts):
            noun = "held-out prompt" if prompts == "held_out" else "prompt"
            return f"scoring the {FINAL} on {plural(num_prompts, noun)}"
        case RoundStarted(num_prompts=num_prompts):
            return f"{where}: {plural(num_prompts, 'prompt')}"
        case RoundFinished(unscored=str(reason)):
            return f"the {FINAL} has no score: {reason}"
        case RoundFinished(untrained=str(reason)):
            return f"{where}: finished, policy unchanged: {reason}"
        case RoundFinished(checkpoint=None):
            return final_score(state) or f"the {FINAL} was scored"
        case RoundFinished():
            change = reward_changes(state)[event.round - 1]
            reward = reward_of(state.rounds[event.round - 1])
            worth = "none" if reward is None else describe_reward(reward)
            shown = "" if change is None else f" ({reward_change_in_words(change)})"
            return (
                f"{where}: finished, checkpoint {event.checkpoint}; the policy before it had reward"
                f" {worth}{shown}"
            )


def _about_upkeep(event: UpkeepNews) -> str:
    match event:
        case RunCreated(run=run, num_prompts=num_prompts, num_too_long=num_too_long):
            skipped = f", {count(num_too_long)} too long and skipped" if num_too_long else ""
            return f"run {run} created: {plural(num_prompts, 'prompt')}{skipped}"
        case SupervisorStarted(process=process):
            restart = describe_restart(event)
            return f"{restart or 'supervisor started'}, process {process.pid}"
        case VersionsChanged(changes=changes):
            return f"it goes on with other code than before: {setting_changes(changes)}"
        case CheckpointPruned(path=path, freed_bytes=freed_bytes):
            return f"deleted {path}, {size(freed_bytes)}"
        case WorkerReplaced(stage=stage, reason=reason):
            return f"the {stage} stage is loaded anew: {reason}"
        case WorkersChosen():
            return describe_workers(event)


def describe_stage_event(event: StageEvent, state: RunState) -> str | None:
    """Words an event without naming its stage; returns None for what only live views show.

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
    """Returns the end of a failed attempt's output, where its owner has to look at it."""
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
    """Says whether the supervisor leaves it at that, as far as event and state tell."""
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
    """Returns the stage that another attempt is made of."""
    if not 1 <= event.round <= len(state.rounds):
        return None
    stage = "sample" if event.cause == "other_policy" else event.stage
    return state.rounds[event.round - 1].stages.get(stage)


def _is_sampling(event: StageFailed, state: RunState) -> bool:
    sample = state.rounds[event.round - 1].stages.get("sample")
    return sample is not None and sample.status == "running"


def _is_past(event: StageFailed, stage: StageState) -> bool:
    """Says whether a newer attempt has begun since, of this stage or of the sampling that it
    blames.
    """
    is_newer = stage.stage == event.stage and stage.attempt > event.attempt
    return is_newer or stage.status != "failed"


def _summary(event: StageFinished) -> str:
    match event.stage:
        case "sample":
            parts = _about_sampling(as_summary(event.summary, SampleSummary))
        case "label":
            parts = _about_labels(as_summary(event.summary, LabelSummary))
        case "train":
            parts = _about_training(as_summary(event.summary, TrainSummary))
    return ", ".join(parts)


def _about_sampling(found: SampleSummary) -> list[str]:
    return [
        f"{count(found.num_completions)} completions of {_tokens(found.length_mean)} on average",
        f"{percent(found.truncated_frac)} cut off",
        rate(found.tokens_per_s, "tokens"),
    ]


def _about_labels(found: LabelSummary) -> list[str]:
    parts = [_reward(found)]
    if found.num_feedback is not None:
        parts.append(f"{count(found.num_feedback)} rows of feedback")
    if found.num_unscored:
        parts.append(f"{count(found.num_unscored)} unscored{_reasons(found)}")
    if found.num_equal_groups:
        parts.append(f"{plural(found.num_equal_groups, 'group')} of equal rewards")
    parts += filter(None, (about_cut_off(found), about_judge(found)))
    return parts


def _about_training(found: TrainSummary) -> list[str]:
    if found.untrained:
        return [f"nothing to train on: {found.untrained}"]
    losses = aligned([found.loss_first, found.loss_last])
    parts = [
        plural(found.num_steps or 0, "step"),
        f"loss {' to '.join(text.strip() for text in losses)}",
        f"KL {kl_initial(found)}",
    ]
    if found.num_masked:
        parts.append(f"{count(found.num_masked)} cut off and masked")
    return parts


def _reward(label: LabelSummary) -> str:
    reward = reward_in(label, 0, 0)
    if reward is None:
        return f"reward {ABSENT}"
    spread = "" if reward.is_share else f", spread {measured(label.reward_std)}"
    return f"reward {describe_reward(reward)}{spread}"


def _tokens(mean: float | None) -> str:
    return f"{ABSENT} tokens" if mean is None else plural(round(mean), "token")


def _reasons(label: LabelSummary) -> str:
    reasons = label.unscored_reasons or {}
    return f" ({'; '.join(f'{n} x {reason}' for reason, n in reasons.items())})" if reasons else ""

"""Words for what happens to a run and its rounds, stages apart."""

from __future__ import annotations

from typing import assert_never

from halos_backend.events import (
    AbortRequested,
    CheckpointPruned,
    GuardTripped,
    PauseRequested,
    RequestRejected,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunCompleted,
    RunCreated,
    RunExtended,
    RunFailed,
    RunPaused,
    RunResumed,
    SettingsChanged,
    SupervisorStarted,
    VersionsChanged,
    WorkerReplaced,
    WorkersChosen,
)
from halos_backend.store.reward_change import reward_of
from halos_backend.store.state import RunState

from halos_tui.formatting import count, plural, setting_changes, size
from halos_tui.run.notices import describe_restart, describe_workers
from halos_tui.run.rounds import (
    FINAL,
    describe_reward,
    final_score,
    reward_change_in_words,
    reward_changes,
)

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


def describe_run_event(event: RunNews, state: RunState) -> str:
    """What happened, in a line. `state` is the newest known, which may be later than the event."""
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

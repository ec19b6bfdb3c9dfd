"""Collects what a person should know of a run besides its numbers: events in, sentences out. Pure.

Notices are what is wrong; the other part is what happened, in its order. Both come from the run's
journal, its stages and its state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from halos_backend.events import (
    AttemptEvent,
    CheckpointPruned,
    GuardTripped,
    MetricsLogged,
    PhaseChanged,
    RequestRejected,
    RoundFinished,
    RoundStarted,
    RunAborted,
    RunEvent,
    RunFailed,
    Stage,
    StageEvent,
    StageFailed,
    StageFinished,
    StageStarted,
    SupervisorStarted,
    VersionsChanged,
    Warned,
    WorkerReplaced,
    WorkersChosen,
)
from halos_backend.events.summaries import LabelSummary, SampleSummary, TrainSummary, as_summary
from halos_backend.store.standard_error import reward_in
from halos_backend.store.state import AT_WORK, RunState

from halos_tui.formatting import clock_time, count, duration, measured, plural, size
from halos_tui.headless.lines import RunNews, describe_run_event, describe_stage_event
from halos_tui.run.view import Happened, Notice, RoundRow, Severity
from halos_tui.tracking.rounds import describe_reward
from halos_tui.tracking.status import SeenStatus, describe_restart, describe_workers

MOST_NOTICES = 50
NUM_ROUNDS_BACK = 5
"""Older rounds keep their notices until a person selects them."""
MOST_EVENTS = 60
LEAST_PHASE_S = 0.1
"""What took less is not told."""
DONE = {
    "starting an engine": "engine started",
    "loading policy": "policy loaded",
    "loading judge": "judge loaded",
    "loading reward model": "reward model loaded",
    "generating": "completions sampled",
    "scoring": "completions scored",
    "making feedback": "feedback made",
    "comparing with the sampler": "compared with the sampler",
    "KL to the initial policy": "KL computed",
    "reference log-probabilities": "reference evaluated",
    "training": "trained",
    "verifying outputs": "outputs verified",
}
SAVING = "saving checkpoint"


class JournalNotices:
    """Holds the last notices that the journal tells and a state does not."""

    def __init__(self) -> None:
        self.notices: deque[Notice] = deque(maxlen=MOST_NOTICES)

    def add(self, events: Iterable[RunEvent]) -> None:
        for event in events:
            if (notice := _told(event)) is not None:
                self.notices.append(notice)


def all_notices(
    state: RunState,
    *,
    journal: Iterable[Notice],
    rows: Sequence[RoundRow],
    selected: RoundRow | None,
    stages: Iterable[Notice],
    supervisor: Notice | None,
) -> tuple[Notice, ...]:
    """Returns what is in the way now, then notices of stages, rounds and journal, newest first.

    `rows` are all rounds; what the selected one has to say goes before the others.
    """
    found = [] if supervisor is None else [supervisor]
    if state.obstacle and state.status in AT_WORK:
        found.append(Notice("warning", state.obstacle))
    found += stages
    if selected is not None:
        found += selected.notices
    for row in reversed(rows[-NUM_ROUNDS_BACK:]):
        found += row.notices
    found += reversed([*journal])
    first_of_kind: dict[str, Notice] = {}
    for notice in found:
        first_of_kind.setdefault(notice.kind or notice.text, notice)
    return tuple(first_of_kind.values())[:MOST_NOTICES]


HINTS: dict[SeenStatus, str] = {
    "paused": "{pause} goes on",
    "failed": "{retry} tries again, {tweak} changes settings before that, {logs} shows the log",
    "lost": "its supervisor is gone: {pause} goes on with a new one",
    "completed": "{extend} adds rounds, {fork} forks",
    "aborted": "{fork} forks from a round of it",
}


def hint_for(status: SeenStatus, keys: Mapping[str, str]) -> str:
    """Says what to do about a status; `keys` are those of the actions, none in a read-only app."""
    if status == "created":
        return "its supervisor has not begun yet"
    return HINTS.get(status, "").format_map(keys) if keys else ""


def _told(event: RunEvent) -> Notice | None:
    match event:
        case GuardTripped(action="warn"):
            return Notice("warning", f"guard {event.guard}: {event.reason}")
        case GuardTripped():
            return Notice("bad", f"guard {event.guard}: {event.reason}; it {event.action}s the run")
        case SupervisorStarted(after_crash=True):
            return Notice("warning", f"{clock_time(event.t)} {describe_restart(event)}")
        case VersionsChanged(changes=changes):
            listed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items())
            return Notice("warning", f"the run goes on with other versions: {listed}")
        case WorkerReplaced(stage=stage, reason=reason):
            return Notice("warning", f"the {stage} stage is loaded anew: {reason}")
        case WorkersChosen(is_warm=False):
            return Notice("warning", describe_workers(event), kind="workers")
        case RequestRejected(reason=reason):
            return Notice("warning", f"a request was refused: {reason}")
        case _:
            return None


class StageEvents:
    """Keeps what happened last, and what the stages do now."""

    def __init__(self) -> None:
        self.events: tuple[Happened, ...] = ()
        self._phases: dict[tuple[int, Stage], PhaseChanged] = {}

    def add(
        self,
        events: Sequence[RunEvent | AttemptEvent],
        state: RunState,
        in_keys: Callable[[str], str] = str,
    ) -> None:
        """Takes in events of one tick, of whichever journals; `state` is the one after them, and
        `in_keys` words the commands in what they tell.
        """
        if not events:
            return
        found = [*self.events]
        for event in sorted(events, key=lambda event: event.t)[-2 * MOST_EVENTS :]:
            happened = self._happened(event, state)
            found += [replace(one, text=in_keys(one.text)) for one in happened]
        self.events = tuple(sorted(found, key=lambda one: one.t))[-MOST_EVENTS:]

    @property
    def now(self) -> tuple[Happened, ...]:
        """Returns the phases that are not over."""
        return tuple(
            Happened(begun.t, stage, f"{begun.phase} ...", "muted")
            for (_, stage), begun in self._phases.items()
        )

    def _happened(self, event: RunEvent | AttemptEvent, state: RunState) -> list[Happened]:
        if not isinstance(event, StageEvent):
            return _of_run(event, state)
        key = (event.round, event.stage)
        match event:
            case PhaseChanged():
                ended = self._ended(key, event.t, state)
                self._phases[key] = event
                return ended
            case StageFinished() | StageFailed():
                ended = self._ended(key, event.t, state)
                return [*ended, *_of_stage(event, state)]
            case _:
                return _of_stage(event, state)

    def _ended(self, key: tuple[int, Stage], t: float, state: RunState) -> list[Happened]:
        """Tells of a phase that is over, unless it took no time."""
        begun = self._phases.pop(key, None)
        if begun is None or t - begun.t < LEAST_PHASE_S:
            return []
        took = f"in {duration(t - begun.t)}"
        if begun.phase == SAVING:
            weights = f" of {size(state.checkpoint_bytes)}" if state.checkpoint_bytes else ""
            return [Happened(t, begun.stage, f"checkpoint{weights} saved {took}")]
        name, _, with_what = begun.phase.partition(" (")
        if name not in DONE:
            return [Happened(t, begun.stage, f"{begun.phase}, {duration(t - begun.t)}")]
        what = f" ({with_what}" if with_what else ""
        return [Happened(t, begun.stage, f"{DONE[name]} {took}{what}")]


def _of_run(event: RunNews, state: RunState) -> list[Happened]:
    match event:
        case RoundStarted(closing=None):
            text = plural(event.num_prompts, "prompt")
            return [Happened(event.t, f"round {event.round}", text)]
        case RoundStarted(closing=closing, num_prompts=num_prompts):
            noun = "held-out prompt" if closing == "held_out" else "prompt"
            return [Happened(event.t, "score", plural(num_prompts, noun))]
        case RoundFinished(untrained=None, unscored=None):
            return []
        case CheckpointPruned(round=round, freed_bytes=freed_bytes):
            text = f"deleted, {size(freed_bytes)} freed"
            return [Happened(event.t, f"round {round}", text, "muted")]
        case RunFailed() | RunAborted():
            severity: Severity | Literal[""] = "bad"
        case GuardTripped() | VersionsChanged() | WorkerReplaced() | RequestRejected():
            severity = "warning"
        case SupervisorStarted(after_crash=True):
            severity = "warning"
        case SupervisorStarted():
            return [Happened(event.t, "run", "supervisor started")]
        case WorkersChosen(is_warm=True):
            return []
        case _:
            severity = ""
    text = describe_run_event(event, state).removeprefix("run ")
    return [Happened(event.t, "run", text, severity)]


def _came_to(event: StageFinished) -> str:
    """Says what came of a stage, in few words; the round's line in the table says more."""
    match event.stage:
        case "sample":
            sampled = as_summary(event.summary, SampleSummary)
            return f"{plural(sampled.num_completions or 0, 'completion')}"
        case "label":
            reward = reward_in(as_summary(event.summary, LabelSummary), event.round, 0)
            return f"reward {'none' if reward is None else describe_reward(reward)}"
        case "train":
            trained = as_summary(event.summary, TrainSummary)
            loss = "" if trained.loss_last is None else f", loss {measured(trained.loss_last)}"
            return f"{plural(trained.num_steps or 0, 'step')}{loss}"


def _of_stage(event: StageEvent, state: RunState) -> list[Happened]:
    match event:
        case StageStarted(attempt=1):
            return []
        case StageStarted(attempt=attempt):
            return [Happened(event.t, event.stage, f"attempt {attempt} started", "warning")]
        case MetricsLogged(step=step, metrics=metrics):
            loss = f", loss {measured(metrics['loss'])}" if "loss" in metrics else ""
            return [Happened(event.t, event.stage, f"step {count(step)}{loss}")]
        case StageFinished():
            return [
                Happened(event.t, event.stage, f"{_came_to(event)}, {duration(event.elapsed_s)}")
            ]
        case StageFailed(cause="stopped"):
            severity: Severity | Literal[""] = "warning"
        case StageFailed():
            severity = "bad"
        case Warned():
            return [Happened(event.t, event.stage, event.text, "warning")]
        case _:
            severity = ""
    text = describe_stage_event(event, state)
    return [] if text is None else [Happened(event.t, event.stage, text, severity)]

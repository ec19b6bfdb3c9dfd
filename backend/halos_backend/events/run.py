"""Owns what the supervisor says has happened: the records of the run's journal."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from halos_backend.events.base import AnswerEvent, Cause, Event, ProcessIdentity, Stage, StageEvent


class ForkOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Names the round of another run that a run begins after; its checkpoint is the initial policy.

    `train` are the train settings of that round where its trainer state came along, else None.
    """

    run: str
    path: str
    round: int
    train: dict[str, Any] | None = None


class RunCreated(Event, frozen=True, kw_only=True):
    """The run exists: its prompts are frozen and its inputs checked.

    `num_held_out` more prompts are for scoring the result alone. `first_cursor` counts the prompts
    that the run it was forked from took before.
    """

    schema_version: int
    run: str
    version: str
    settings: dict[str, Any]
    num_prompts: int
    num_too_long: int
    prompts_sha256: str
    policy_sha256: str
    checkpoint_bytes: int
    num_held_out: int = 0
    first_cursor: int = 0
    forked_from: ForkOrigin | None = None


class SupervisorStarted(Event, frozen=True, kw_only=True):
    """A supervisor took the run's lock. `generation` counts them.

    `versions` are those of Python, of this project and of the libraries that compute.
    `after_crash`: the one before ended while the run was at work, without a word; `went_on` are the
    stages whose processes live all the same, `gone` those whose do not.
    """

    generation: int
    process: ProcessIdentity
    version: str
    versions: dict[str, str] = {}
    after_crash: bool = False
    went_on: tuple[Stage, ...] = ()
    gone: tuple[Stage, ...] = ()


class VersionsChanged(Event, frozen=True, kw_only=True):
    """The run goes on with other code than before: {package: [before, now]}."""

    changes: dict[str, tuple[str, str]]


ClosingPrompts = Literal["next", "held_out"]
"""Says what the last policy is scored on: prompts that the next round would take, or
held-out ones.
"""


class RoundStarted(Event, frozen=True, kw_only=True):
    """A round takes `num_prompts` prompts from `cursor` on, with these settings.

    A `closing` round follows the last one: it samples and labels, to score the run's result, and
    trains nothing. A round of the same number that begins later takes its place.
    """

    round: int
    cursor: int
    num_prompts: int
    settings: dict[str, Any]
    closing: ClosingPrompts | None = None


class StageStarted(StageEvent, frozen=True, kw_only=True):
    """A stage's process exists; `is_warm` says that it stays between rounds."""

    process: ProcessIdentity
    command: list[str]
    devices: list[str] = []
    is_warm: bool = False


class StageDelayed(StageEvent, frozen=True, kw_only=True):
    """An attempt cannot start yet: GPU memory is held, or its devices are another run's."""

    reason: str


class WorkerReplaced(Event, frozen=True, kw_only=True):
    """The program that a stage kept between rounds is no more, and will be loaded anew, or not."""

    stage: Stage
    reason: str


class WorkersChosen(Event, frozen=True, kw_only=True):
    """Says what `launch.warm_workers = "auto"` comes to: whether the stages' programs stay between
    rounds.

    `is_measured` says that it is known from rounds of this run, not from sizes of files.
    """

    is_warm: bool
    reason: str
    is_measured: bool = False


class StageStalled(StageEvent, frozen=True, kw_only=True):
    """A running stage has said nothing for `silent_s` seconds, while it did `phase`."""

    silent_s: float
    phase: str


class StageAdopted(StageEvent, frozen=True, kw_only=True):
    """A new supervisor found the stage of an earlier one alive and goes on watching it."""

    process: ProcessIdentity


class StageFinished(StageEvent, frozen=True, kw_only=True):
    """A stage's `DONE` is verified; `summary` is enough to draw the finished stage."""

    elapsed_s: float
    summary: dict[str, Any]


class StageFailed(StageEvent, frozen=True, kw_only=True):
    """An attempt ended without a valid `DONE`.

    `durable` counts what a later attempt can take over: complete rows, or optimizer steps.
    """

    reason: str
    exit_code: int | None
    last_lines: list[str]
    cause: Cause = "crashed"
    durable: int = 0


class RoundFinished(Event, frozen=True, kw_only=True):
    """All stages of a round are done. `checkpoint` is relative to the run directory.

    `untrained` says why the policy stays as it was (no feedback left, say); then no checkpoint.
    Of a closing round `unscored` says why the result has no score.
    """

    round: int
    checkpoint: str | None
    metrics: dict[str, Any]
    untrained: str | None = None
    unscored: str | None = None


class CheckpointPruned(Event, frozen=True, kw_only=True):
    """A checkpoint or trainer state that a proven later one replaces was deleted."""

    round: int
    path: str
    freed_bytes: int


class PauseRequested(AnswerEvent, frozen=True, kw_only=True):
    """The owner wants the run to stop at the next boundary, and to go on later."""

    at: Literal["round", "stage"] = "round"


class AbortRequested(AnswerEvent, frozen=True, kw_only=True):
    """The owner wants the run to stop for good: now, or when the stage or round at hand is done."""

    when: Literal["now", "stage", "round"] = "now"


class SettingsChanged(AnswerEvent, frozen=True, kw_only=True):
    """Says that settings hold from `from_round` on: {dotted path: [before, now]}."""

    from_round: int
    changes: dict[str, tuple[Any, Any]]
    consequences: list[str] = []
    by: str = ""


class RunExtended(AnswerEvent, frozen=True, kw_only=True):
    """A completed run goes on for more rounds, with the settings that this takes."""

    num_rounds: int
    changes: dict[str, tuple[Any, Any]]
    by: str = ""


class GuardTripped(Event, frozen=True, kw_only=True):
    """A guard's metric broke its limit; `value` is None where it is not finite.

    `stage` is None for what is looked at before a round.
    """

    guard: str
    round: int
    stage: Stage | None
    metric: str
    value: float | None
    reason: str
    action: Literal["pause", "abort", "warn"]


class RequestRejected(AnswerEvent, frozen=True, kw_only=True):
    """A request file changed nothing; `request_id` is empty where the file names none."""

    reason: str


class RunPaused(Event, frozen=True, kw_only=True):
    """The run stopped in good order (SIGTERM to the supervisor, say) and can be resumed."""

    reason: str


class RunAborted(AnswerEvent, frozen=True, kw_only=True):
    """The run stopped for good; the last finished round's checkpoint is the result."""


class RunFailed(Event, frozen=True, kw_only=True):
    """The run cannot go on by itself."""

    reason: str


class RunResumed(AnswerEvent, frozen=True, kw_only=True):
    """A failed or paused run goes on; failed attempts are forgiven."""

    request_id: str = ""


class RunCompleted(Event, frozen=True, kw_only=True):
    """The run has its result."""

    reason: str


RunEvent = (
    RunCreated
    | SupervisorStarted
    | VersionsChanged
    | RoundStarted
    | StageStarted
    | StageDelayed
    | WorkerReplaced
    | WorkersChosen
    | StageStalled
    | StageAdopted
    | StageFinished
    | StageFailed
    | RoundFinished
    | CheckpointPruned
    | PauseRequested
    | AbortRequested
    | SettingsChanged
    | RunExtended
    | RequestRejected
    | GuardTripped
    | RunPaused
    | RunAborted
    | RunFailed
    | RunResumed
    | RunCompleted
)

run_event_decoder = msgspec.json.Decoder(RunEvent)

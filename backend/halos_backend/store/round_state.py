"""Owns one round in the fold of a journal: how far its stages are, and whether a failed one is made
again. It is pure.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from halos_backend.events import (
    STAGES,
    Cause,
    ClosingPrompts,
    ProcessIdentity,
    RoundFinished,
    Stage,
    StageAdopted,
    StageFailed,
    StageFinished,
    StageStarted,
)
from halos_backend.events.summaries import (
    SUMMARIES,
    Kind,
    LabelSummary,
    SampleSummary,
    StageSummary,
    TrainSummary,
    read_summary,
)

StageStatus = Literal["running", "finished", "failed"]
StageOutcome = StageStatus | Literal["aborted", "stopped"]

StageNews = StageStarted | StageAdopted | StageFinished | StageFailed

WAIT_FOR_OWNER: frozenset[Cause] = frozenset(
    {"out_of_memory", "non_finite", "missing_input", "no_space", "other_policy", "refused"}
)
"""Names causes that would only come back: a new attempt would waste time."""
FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 300.0


class StageState(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the newest attempt of one stage of one round.

    `num_barren` counts the failed attempts in a row that left no more than the ones before them;
    `durable` is the most that any attempt left. `failed_t` is None where nothing stands against the
    next attempt. `is_warm` and `has_company` say what the attempt shared its memory with: its
    process stays between rounds, as others do, or another stage ran beside it. `is_aborted`: it was
    stopped because the run was aborted. The summary is kept as JSON: as objects those of a thousand
    rounds would take 7 MB.
    """

    stage: Stage
    status: StageStatus
    attempt: int
    started_t: float
    process: ProcessIdentity | None = None
    elapsed_s: float | None = None
    summary_json: msgspec.Raw = msgspec.field(name="summary", default=msgspec.Raw(b"{}"))
    reason: str | None = None
    cause: Cause | None = None
    failed_t: float | None = None
    num_barren: int = 0
    durable: int = 0
    is_warm: bool = False
    has_company: bool = False
    is_aborted: bool = False

    @property
    def outcome(self) -> StageOutcome:
        """Says what to call the attempt: nothing failed where the run stopped or aborted it."""
        if self.status != "failed":
            return self.status
        if self.is_aborted:
            return "aborted"
        return "stopped" if self.cause in ("stopped", "over_budget") else "failed"

    @property
    def summary(self) -> StageSummary:
        """Returns what the finished stage said of itself, by its kind; decoded anew each time."""
        return read_summary(self.summary_json, SUMMARIES[self.stage])

    @property
    def figures(self) -> dict[str, Any]:
        """Returns all that the stage said by name, also what only another version knows."""
        found: dict[str, Any] = msgspec.json.decode(self.summary_json)
        return found


class RoundState(msgspec.Struct, frozen=True, kw_only=True):
    """Describes one round: what it took, how far its stages are, what came of it.

    A `closing` round scores the run's result and trains nothing; see RoundStarted.
    """

    round: int
    cursor: int
    num_prompts: int
    settings: dict[str, Any]
    started_t: float
    stages: dict[Stage, StageState] = {}
    finished_t: float | None = None
    checkpoint: str | None = None
    untrained: str | None = None
    metrics: dict[str, Any] = {}
    closing: ClosingPrompts | None = None
    unscored: str | None = None

    @property
    def active(self) -> StageState | None:
        """Returns the stage that runs now; of two the earlier one."""
        return next((stage for stage in self.stages.values() if stage.status == "running"), None)

    @property
    def sample_summary(self) -> SampleSummary:
        """Returns what sampling came to; nothing is known in it until it has finished."""
        return self._summary("sample", SampleSummary)

    @property
    def label_summary(self) -> LabelSummary:
        return self._summary("label", LabelSummary)

    @property
    def train_summary(self) -> TrainSummary:
        return self._summary("train", TrainSummary)

    def _summary(self, stage: Stage, kind: type[Kind]) -> Kind:
        found = self.stages.get(stage)
        return kind() if found is None else read_summary(found.summary_json, kind)


def waits_for_owner(stage: StageState) -> bool:
    """Says whether a failed stage would only fail again for the same cause.

    The next attempt begins from nothing and has the memory to itself, which helps where this one
    had company; and where an engine that stays sampled with other weights than it was to.
    """
    match stage.cause:
        case "out_of_memory":
            return not (stage.is_warm or stage.has_company)
        case "other_policy":
            return not stage.is_warm
        case cause:
            return cause in WAIT_FOR_OWNER


def retry_delay_s(num_barren: int) -> float:
    """Returns seconds before the next attempt, after so many in a row that left nothing new: 0, 5,
    10...
    """
    if num_barren <= 1:
        return 0.0
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(num_barren - 2, 30)))


def apply_to_round(round: RoundState, event: StageNews, *, is_aborting: bool = False) -> RoundState:
    """Returns the round after news of one of its stages; news of a stage that never started is
    none.

    `is_aborting`: the run is about to end, and what is stopped now is stopped for that.
    """
    after = _stage_after(round.stages.get(event.stage), event)
    if after is None:
        return round
    if is_aborting and after.outcome == "stopped":
        after = replace(after, is_aborted=True)
    stages = {
        stage: after if stage == event.stage else round.stages[stage]
        for stage in STAGES
        if stage == event.stage or stage in round.stages
    }
    match event:
        case StageStarted(stage="label"):
            stages = _in_company(stages)
        case StageFailed(stage="sample"):
            stages = _without_labels(stages)
        case StageFailed(stage="train", cause="other_policy"):
            stages = _to_be_sampled_anew(stages, event)
    return replace(round, stages=stages)


def with_round(rounds: tuple[RoundState, ...], round: RoundState) -> tuple[RoundState, ...]:
    """Returns the rounds, with this one in its place."""
    return (*rounds[: round.round - 1], round, *rounds[round.round :])


def finds_no_room(round: RoundState, event: StageNews) -> bool:
    """Says whether an attempt ran out of memory that it shared with other programs of the run."""
    if not isinstance(event, StageFailed) or event.cause != "out_of_memory":
        return False
    stage = round.stages.get(event.stage)
    return stage is not None and (stage.is_warm or stage.has_company)


def finish_round(round: RoundState, event: RoundFinished) -> RoundState:
    return replace(
        round,
        finished_t=event.t,
        checkpoint=event.checkpoint,
        untrained=event.untrained,
        metrics=event.metrics,
        unscored=event.unscored,
    )


def reopen(round: RoundState) -> RoundState:
    """Lets a closing round that ended without a score go on: its owner wants that."""
    return replace(round, finished_t=None, unscored=None)


def _without_labels(stages: dict[Stage, StageState]) -> dict[Stage, StageState]:
    """Drops what was labelled while it was sampled: it does not count once the sampling
    has failed.
    """
    label = stages.get("label")
    if label is None or label.status != "finished":
        return stages
    return {**stages, "label": replace(label, status="failed", cause="stopped")}


def _in_company(stages: dict[Stage, StageState]) -> dict[Stage, StageState]:
    """Marks a label stage that starts while sampling goes on: it shares the machine with it."""
    sample, label = stages.get("sample"), stages["label"]
    if sample is None or sample.status != "running":
        return stages
    return {
        **stages,
        "sample": replace(sample, has_company=True),
        "label": replace(label, has_company=True),
    }


def _to_be_sampled_anew(
    stages: dict[Stage, StageState], event: StageFailed
) -> dict[Stage, StageState]:
    """Drops completions of another policy, and what was made of them: neither counts."""
    failed = {
        name: replace(stage, status="failed", cause="stopped", failed_t=None)
        for name, stage in stages.items()
    }
    sample = replace(
        failed["sample"], cause=event.cause, reason=event.reason, failed_t=event.t, durable=0
    )
    return {**failed, "sample": sample}


def forgive_failures(round: RoundState) -> RoundState:
    """Clears the round's failed attempts: their owner told the run to go on."""
    stages = {
        name: replace(stage, num_barren=0, failed_t=None, cause=None)
        if stage.status == "failed"
        else stage
        for name, stage in round.stages.items()
    }
    return replace(round, stages=stages)


def _stage_after(before: StageState | None, event: StageNews) -> StageState | None:
    """Returns the stage after an event; None for news of a stage that nothing is known of."""
    if isinstance(event, StageStarted):
        known = before or StageState(
            stage=event.stage, status="running", attempt=event.attempt, started_t=event.t
        )
        return replace(
            known,
            status="running",
            attempt=event.attempt,
            started_t=event.t,
            process=event.process,
            is_warm=event.is_warm,
            has_company=False,
        )
    if before is None:
        return None
    match event:
        case StageAdopted(process=process):
            return replace(before, process=process)
        case StageFinished():
            return replace(
                before,
                status="finished",
                elapsed_s=event.elapsed_s,
                summary_json=msgspec.Raw(msgspec.json.encode(event.summary)),
                reason=None,
                cause=None,
                failed_t=None,
            )
        case StageFailed():
            return _failed(before, event)
    return None


def _failed(before: StageState, event: StageFailed) -> StageState:
    if event.cause == "stopped":
        num_barren = before.num_barren
    else:
        num_barren = 0 if event.durable > before.durable else before.num_barren + 1
    return replace(
        before,
        status="failed",
        reason=event.reason,
        cause=event.cause,
        failed_t=event.t,
        num_barren=num_barren,
        durable=max(before.durable, event.durable),
    )

"""Checks whether guards trip, at a stage's end and at the disk before each round, and records
trips.

`check_stage` and `check_disk` are pure, `GuardWatch` calls them at the right moments,
`measure_disk` measures free space and what a round leaves. `config.guards` owns the settings of
guards; the state decides what a trip does to a run.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from halos_backend import clock
from halos_backend.config.consequences import judging
from halos_backend.config.guards import Guard, GuardMetric
from halos_backend.config.needs import round_needed_bytes
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    GuardTripped,
    RunEvent,
    Stage,
    StageFailed,
    StageFinished,
    SupervisorStarted,
)
from halos_backend.findings import Prepared
from halos_backend.records import BAD_JSON
from halos_backend.store.round_state import RoundState, StageState
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

STAGE_OF_METRIC: dict[GuardMetric, Stage] = {
    "length_mean": "sample",
    "truncated_frac": "sample",
    "unique_frac": "sample",
    "reward_mean": "label",
    "unscored_frac": "label",
    "reward_length_corr": "label",
    "loss_last": "train",
    "kl_initial": "train",
}
"""Names the stage whose summary has the metric, under that name."""
GIB = 1 << 30

LEAST_BYTES_PER_PARAMETER = 2
"""Is the least that a checkpoint of any type can have."""


def check_stage(
    state: RunState, round: int, stage: Stage, settings: RunSettings, *, now: float
) -> list[GuardTripped]:
    """Returns the guards that a stage of round `round` trips which has just finished, or failed.

    Of a failed stage only a loss that is not finite is known. A number that is not finite breaks
    every limit; a figure that has no meaning (null) breaks none.
    """
    at_hand = state.rounds[round - 1]
    ended = at_hand.stages[stage]
    tripped = []
    for name, guard in _guards_of(settings, stage):
        value, problem = _value(ended, guard.metric), None
        if _is_not_finite(ended, guard.metric):
            problem = "not finite"
        elif value is not None:
            earlier = _comparable(state.rounds[: round - 1], at_hand, guard.metric)
            problem = _why_tripped(guard, value, earlier)
        if problem is not None:
            tripped.append(_trip(name, guard, round, stage, value, problem, now))
    return tripped


def check_disk(
    state: RunState, settings: RunSettings, room: DiskRoom, *, now: float
) -> list[GuardTripped]:
    """Returns the guards that the disk trips before the round at hand."""
    needed = round_needed_bytes(
        settings,
        num_parameters=room.num_parameters,
        checkpoint_bytes=state.checkpoint_bytes,
        last_round_bytes=room.last_round_bytes,
    )
    values: Mapping[GuardMetric, float] = {
        "disk_free_bytes": room.free_bytes,
        "disk_free_rounds": room.free_bytes / max(needed, 1),
    }
    sizes = f"{room.free_bytes / GIB:.3g} GiB are free, a round needs up to {needed / GIB:.3g} GiB"
    tripped = []
    for name, guard in _guards_of(settings, None):
        value = values[guard.metric]
        if problem := _why_tripped(guard, value, ()):
            problem = f"{problem}: {sizes}"
            tripped.append(_trip(name, guard, state.round_at_hand, None, value, problem, now))
    return tripped


def _guards_of(settings: RunSettings, stage: Stage | None) -> Iterator[tuple[str, Guard]]:
    """Yields the guards that are on and read a stage's summary, or the disk where `stage`
    is None.
    """
    for name, guard in settings.guards.items():
        if guard.action != "off" and STAGE_OF_METRIC.get(guard.metric) == stage:
            yield name, guard


def _is_not_finite(stage: StageState, metric: GuardMetric) -> bool:
    if stage.status == "failed":
        return metric == "loss_last" and stage.cause == "non_finite"
    return metric in (stage.summary.non_finite or ())


def _value(stage: StageState, metric: GuardMetric) -> float | None:
    """Returns the value; None of a stage that failed, and of a figure that is not finite or has no
    meaning.
    """
    value: float | None = getattr(stage.summary, metric) if stage.status == "finished" else None
    return value


def _comparable(
    earlier: Sequence[RoundState], at_hand: RoundState, metric: GuardMetric
) -> list[float]:
    """Returns the metric's values in earlier rounds; rewards of another judge are left out, being
    on another scale.
    """
    name = STAGE_OF_METRIC[metric]
    values = []
    for round in earlier:
        stage = round.stages.get(name)
        value = None if stage is None else _value(stage, metric)
        if value is not None and (name != "label" or _judge(round) == _judge(at_hand)):
            values.append(value)
    return values


def _judge(round: RoundState) -> object:
    return judging(round.settings["label"]["judge"])


def _why_tripped(guard: Guard, value: float, earlier: Sequence[float]) -> str | None:
    """Says in words which limit `value` breaks first; None where it breaks none."""
    if guard.above is not None and value > guard.above:
        return f"above {guard.above:g}"
    if guard.below is not None and value < guard.below:
        return f"below {guard.below:g}"
    if guard.drop_frac is not None and earlier:
        best = max(earlier)
        if best - value > guard.drop_frac * abs(best):
            return f"more than {guard.drop_frac * 100:g} % under the best so far, {best:g}"
    return None


def _trip(
    name: str,
    guard: Guard,
    round: int,
    stage: Stage | None,
    value: float | None,
    problem: str,
    now: float,
) -> GuardTripped:
    assert guard.action != "off", "a guard that is off is not looked at"
    shown = problem if value is None else f"{value:g}, {problem}"
    return GuardTripped(
        t=now,
        guard=name,
        round=round,
        stage=stage,
        metric=guard.metric,
        value=value,
        reason=f"{guard.metric} is {shown} (guard {name})",
        action=guard.action,
    )


class GuardWatch:
    """Watches the guards of one run; every trip goes through `record`."""

    def __init__(self, run_dir: RunDir, record: Callable[[RunEvent], None]) -> None:
        self._run_dir = run_dir
        self._record = record

    def before_round(self, state: RunState, settings: RunSettings) -> None:
        """Checks the disk. Raises OSError for a disk that does not answer."""
        room = measure_disk(self._run_dir, state)
        for trip in check_disk(state, settings, room, now=clock.now()):
            self._record(trip)

    def after_stage(
        self,
        ended: StageFinished | StageFailed,
        state: RunState,
        settings: RunSettings,
        *,
        known: Collection[str] = (),
    ) -> None:
        """Checks a stage that has ended; guards that are `known` to have tripped already are left
        out.

        When the result is scored there is nothing left to stop.
        """
        if state.rounds[ended.round - 1].closing is not None:
            return
        for trip in check_stage(state, ended.round, ended.stage, settings, now=clock.now()):
            if trip.guard not in known:
                self._record(trip)

    def look_again(
        self, journal: Sequence[RunEvent], state: RunState, settings: RunSettings
    ) -> None:
        """Checks the last stages again: an earlier supervisor may have died between a stage's end
        and its guards.
        """
        known: set[str] = set()
        for event in reversed(journal):
            match event:
                case GuardTripped(guard=guard):
                    known.add(guard)
                case SupervisorStarted():
                    pass
                case StageFinished() | StageFailed():
                    self.after_stage(event, state, settings, known=known)
                    return
                case _:
                    return


@dataclass(frozen=True)
class DiskRoom:
    """Holds what was measured of the disk. `last_round_bytes` are the newest round's, 0 before the
    first.
    """

    free_bytes: int
    num_parameters: int
    last_round_bytes: int = 0


def measure_disk(run_dir: RunDir, state: RunState) -> DiskRoom:
    """Measures the disk. Raises OSError for a disk that does not answer."""
    return DiskRoom(
        free_bytes=shutil.disk_usage(run_dir.path).free,
        num_parameters=_num_parameters(run_dir, state),
        last_round_bytes=_tree_bytes(run_dir, state.num_rounds) if state.num_rounds else 0,
    )


def _num_parameters(run_dir: RunDir, state: RunState) -> int:
    """Counts parameters as the prepare stage did, else the most that the checkpoint's
    bytes can be.
    """
    known: int | None = None
    with contextlib.suppress(OSError, *BAD_JSON):
        known = msgspec.json.decode(run_dir.prepared.read_bytes(), type=Prepared).num_parameters
    return state.checkpoint_bytes // LEAST_BYTES_PER_PARAMETER if known is None else known


def _tree_bytes(run_dir: RunDir, round: int) -> int:
    return sum(path.lstat().st_size for path in run_dir.round(round).rglob("*") if path.is_file())

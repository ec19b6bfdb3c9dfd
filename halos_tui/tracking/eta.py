"""Estimates how long a stage, its round and the run still take, and how sure that is. It is pure.

It has two sources: the rate of the work at hand, and the times that the stages of finished rounds
took.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from halos_backend.events import STAGES, Stage
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_summary import to_come
from halos_backend.store.state import AT_WORK, RunState

from halos_tui.formatting import ABSENT, rough_duration

ProgressMark = tuple[float, int]
"""A mark says when so many units were done."""

FOUR_IN_FIVE = 1.2816
"""So many standard deviations around the mean hold 80 % of a normal distribution."""
GUESSED_SPREAD = 0.25
"""This relative spread is taken where a single value tells of none."""
LITTLE_DONE = 0.1
"""A single rate tells nothing before so much of the work is done: a batch's first completions are
those that end soonest, and come long after its begin.
"""
LEAST_SPREAD = 0.05
"""Work to come is never surer than this relative spread."""
SCORING_STAGES: tuple[Stage, ...] = ("sample", "label")
"""These stages belong to the round that scores the result."""
NUM_ROUNDS_BACK = 8
"""So many rounds count; older ones ran under other conditions."""
LEAST_S = 0.5
"""Less than this is rounded to nothing."""
OVERDUE = "longer than expected"


@dataclass(frozen=True)
class Estimate:
    """Gives seconds: the likely value, its standard deviation, and `is_open` where a part is
    unknown; `is_overdue` where that is because something takes longer than it ever should.
    """

    mean_s: float
    sd_s: float
    is_open: bool = False
    is_overdue: bool = False

    @property
    def low_s(self) -> float:
        """It takes less than this in one case of ten."""
        return max(0.0, self.mean_s - FOUR_IN_FIVE * self.sd_s)

    @property
    def high_s(self) -> float:
        """It takes more than this in one case of ten."""
        return self.mean_s + FOUR_IN_FIVE * self.sd_s

    def then(self, other: Estimate | None) -> Estimate:
        """Adds another estimate, which comes after; None is something of which nothing is known."""
        if other is None:
            return replace(self, is_open=True)
        return Estimate(
            self.mean_s + other.mean_s,
            math.hypot(self.sd_s, other.sd_s),
            is_open=self.is_open or other.is_open,
            is_overdue=self.is_overdue or other.is_overdue,
        )


@dataclass(frozen=True)
class Work:
    """Describes a running stage: for how long it runs, its progress, and how many units there
    are.
    """

    elapsed_s: float
    marks: tuple[ProgressMark, ...] = ()
    total: int = 0


@dataclass(frozen=True)
class Forecast:
    """An estimate is None where nothing can be said."""

    stages: Mapping[tuple[int, Stage], Estimate]
    round: Estimate | None = None
    run: Estimate | None = None


def describe(estimate: Estimate | None) -> str:
    """Writes `about 4m (3m-6m)`, or `at least 4m` where a part of it is unknown, or OVERDUE."""
    if estimate is None:
        return ABSENT
    if estimate.mean_s < LEAST_S and (estimate.is_overdue or not estimate.is_open):
        return OVERDUE if estimate.is_overdue else "less than 1s"
    likely = rough_duration(estimate.mean_s)
    if estimate.is_open:
        return f"at least {likely}"
    low, high = rough_duration(estimate.low_s), rough_duration(estimate.high_s)
    return f"about {likely}" if low == high else f"about {likely} ({low}-{high})"


def as_json(estimate: Estimate | None) -> dict[str, float | bool] | None:
    """Returns plain data: in four cases of five it takes between `low_s` and `high_s`."""
    if estimate is None:
        return None
    return {
        "likely_s": round(estimate.mean_s, 3),
        "low_s": round(estimate.low_s, 3),
        "high_s": round(estimate.high_s, 3),
        "is_open": estimate.is_open,
    }


def forecast(state: RunState, work: Mapping[tuple[int, Stage], Work]) -> Forecast:
    """Estimates all three, for a run at work. `work` has its running stages."""
    if state.status not in AT_WORK:
        return Forecast({})
    stages = {
        key: estimate
        for key, running in work.items()
        if (estimate := stage_left(running, stage_times(state, key[1]))) is not None
    }
    round = _round_left(state, stages)
    left = _run_left(state, round)
    scoring = _scoring_left(state)
    return Forecast(stages, round, left if left is None or scoring is None else left.then(scoring))


def stage_left(work: Work, times: Sequence[float]) -> Estimate | None:
    """Estimates by the stage's rate and by what such stages took before.

    The rate knows nothing of the phases to come, so the later of both is believed, and half of
    their distance counts as doubt.
    """
    known = [
        estimate
        for estimate in (from_marks(work), from_times(times, elapsed_s=work.elapsed_s))
        if estimate is not None
    ]
    if len(known) < 2:
        return known[0] if known else None
    sooner, later = sorted(known, key=lambda estimate: estimate.mean_s)
    is_overdue = later.mean_s < LEAST_S and (sooner.is_overdue or later.is_overdue)
    return Estimate(
        later.mean_s,
        math.hypot(later.sd_s, (later.mean_s - sooner.mean_s) / 2),
        is_open=is_overdue,
        is_overdue=is_overdue,
    )


def from_marks(work: Work) -> Estimate | None:
    """Estimates what is left at the rate so far; once all units are done that is not known.

    The spread is that of the rates between the marks, for as many pieces as are still to come.
    """
    marks = work.marks
    if len(marks) < 2 or marks[-1][1] >= work.total:
        return None
    (first_t, first_done), (last_t, last_done) = marks[0], marks[-1]
    elapsed, done = last_t - first_t, last_done - first_done
    if elapsed <= 0 or done <= 0:
        return None
    mean = (work.total - last_done) * elapsed / done
    rates = [
        (after - before) / (end - start)
        for (start, before), (end, after) in pairwise(marks)
        if end > start
    ]
    if len(rates) < 2 and last_done < LITTLE_DONE * work.total:
        return None
    if len(rates) < 2:
        return Estimate(mean, GUESSED_SPREAD * mean)
    num_to_come = mean / (elapsed / len(rates))
    spread = statistics.stdev(rates) * elapsed / done
    relative = spread * math.sqrt(1 / len(rates) + 1 / num_to_come)
    return Estimate(mean, max(LEAST_SPREAD, relative) * mean)


def from_times(times: Sequence[float], *, elapsed_s: float = 0.0) -> Estimate | None:
    """Estimates what is left of something that took so long before."""
    total = _repeated(times, 1)
    if total is None:
        return None
    is_overdue = elapsed_s > total.mean_s
    left_s = max(0.0, total.mean_s - elapsed_s)
    return Estimate(left_s, total.sd_s, is_open=is_overdue, is_overdue=is_overdue)


def stage_times(state: RunState, stage: Stage) -> list[float]:
    """Returns seconds of the last finished rounds, as if each had as many prompts as the newest."""
    if not state.rounds:
        return []
    wanted = state.rounds[-1].num_prompts
    return [
        done.elapsed_s * wanted / round.num_prompts
        for round in state.rounds[-NUM_ROUNDS_BACK - 1 :]
        if (done := round.stages.get(stage)) is not None
        and done.status == "finished"
        and done.elapsed_s is not None
        and round.num_prompts
    ]


def num_rounds_left(state: RunState) -> int | None:
    """Counts the rounds after the one at hand; None where the settings do not say."""
    ahead = to_come(state)
    return None if ahead is None else ahead[0]


def run_share(state: RunState, work: Mapping[tuple[int, Stage], Work]) -> float | None:
    """Returns how much of the rounds is done, 0 to 1; None where nobody knows how many there are.

    In the round at hand a stage counts by what it took before, compared with the others.
    """
    left = num_rounds_left(state)
    if left is None or not state.rounds:
        return None
    total = state.num_rounds + left
    round = state.rounds[-1]
    if round.closing is not None or round.finished_t is not None or not total:
        return min(1.0, state.num_rounds / total) if total else None
    weights = _weights(state)
    done = sum(
        weight * _stage_share(round, stage, work.get((round.round, stage)))
        for stage, weight in weights.items()
    )
    return (state.num_rounds - 1 + done / sum(weights.values())) / total


def _weights(state: RunState) -> dict[Stage, float]:
    times = {stage: stage_times(state, stage) for stage in STAGES}
    if not all(times.values()):
        return dict.fromkeys(STAGES, 1.0)
    return {stage: max(1e-9, statistics.fmean(found)) for stage, found in times.items()}


def _stage_share(round: RoundState, stage: Stage, work: Work | None) -> float:
    found = round.stages.get(stage)
    if found is None:
        return 0.0
    if found.status == "finished":
        return 1.0
    if work is None or not work.total or not work.marks:
        return 0.0
    return min(1.0, work.marks[-1][1] / work.total)


def _round_left(state: RunState, running: Mapping[tuple[int, Stage], Estimate]) -> Estimate | None:
    """Estimates a round; None between rounds, and where nothing is known of any stage to come."""
    if not state.rounds or state.rounds[-1].finished_t is not None:
        return None
    round = state.rounds[-1]
    now = [running.get(key) for key in state.active]
    known = [estimate for estimate in now if estimate is not None]
    later = [
        from_times(stage_times(state, stage))
        for stage in (SCORING_STAGES if round.closing else STAGES)
        if not _is_begun(round, stage) and not (stage == "label" and _overlaps(round))
    ]
    if not known and not any(later):
        return None
    left = max(known, key=lambda estimate: estimate.mean_s, default=Estimate(0.0, 0.0))
    for part in [*later, *([None] if None in now else [])]:
        left = left.then(part)
    return left


def _is_begun(round: RoundState, stage: Stage) -> bool:
    found = round.stages.get(stage)
    return found is not None and found.status != "failed"


def _overlaps(round: RoundState) -> bool:
    """Says whether labelling ends with sampling."""
    return bool(round.settings.get("loop", {}).get("overlap"))


def _run_left(state: RunState, round: Estimate | None) -> Estimate | None:
    left = num_rounds_left(state)
    if left is None:
        return None
    times = [
        busy_s(done)
        for done in state.rounds[-NUM_ROUNDS_BACK - 1 :]
        if done.finished_t is not None and done.closing is None
    ]
    later = Estimate(0.0, 0.0) if left == 0 else _repeated(times, left)
    return later if round is None else round.then(later)


def _scoring_left(state: RunState) -> Estimate | None:
    """Estimates the scoring of the result after the last round; None where it runs, or will not
    come.
    """
    loop = state.settings_of(state.num_rounds + 1).get("loop", {})
    ahead = to_come(state)
    if state.closing is not None or loop.get("score_final") is False or ahead is None:
        return None
    unseen = max(0, state.num_prompts - ahead[1])
    size = state.num_held_out or min(unseen, loop["prompts_per_round"])
    found = [from_times(stage_times(state, stage)) for stage in SCORING_STAGES]
    parts = [estimate for estimate in found if estimate is not None]
    if not size or len(parts) < len(SCORING_STAGES):
        return None
    share = size / state.rounds[-1].num_prompts
    whole = (
        max(parts, key=lambda part: part.mean_s) if loop.get("overlap") else parts[0].then(parts[1])
    )
    return Estimate(whole.mean_s * share, whole.sd_s * share)


def busy_s(round: RoundState) -> float:
    """Adds up seconds in which stages ran; sampling and labelling that overlap count once."""
    times = {name: stage.elapsed_s or 0.0 for name, stage in round.stages.items()}
    if _overlaps(round) and {"sample", "label"} <= times.keys():
        del times[min(("sample", "label"), key=lambda name: times[name])]
    return sum(times.values())


def _repeated(times: Sequence[float], count: int) -> Estimate | None:
    """Estimates the sum of `count` more of what took so long.

    Each varies, and their mean is not known well either.
    """
    if not times:
        return None
    mean = statistics.fmean(times)
    spread = statistics.stdev(times) if len(times) > 1 else GUESSED_SPREAD * mean
    spread = max(spread, LEAST_SPREAD * mean)
    return Estimate(mean * count, spread * math.sqrt(count + count * count / len(times)))

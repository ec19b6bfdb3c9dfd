"""Says what stopping a run ends, what it leaves, when it can be, and what is lost with a run.

Words only; pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halos_backend.store.attempt_state import LiveStage
from halos_backend.store.requests import SOONEST_FIRST, When
from halos_backend.store.run_dir import RunDir

from halos_tui.formatting import count, percent, plural, rough_duration, size
from halos_tui.tracking.rounds import FINAL, place
from halos_tui.tracking.status import Observation

if TYPE_CHECKING:
    from halos_backend.client.remove import Lost  # pydantic: 0.1 s


def abort_times(seen: Observation) -> list[When]:
    """Returns when the run can stop: sooner than is asked for already, and no later than it
    does.
    """
    state = seen.state
    if state.status in ("paused", "failed", "created"):
        return ["now"]
    due = state.abort_when if state.status == "aborting" else None
    times = SOONEST_FIRST if due is None else SOONEST_FIRST[: SOONEST_FIRST.index(due)]
    return [when for when in times if when != "stage" or state.active]


def stops(seen: Observation) -> str:
    """Returns `Stops: train of round 3, 12 of 40 steps done.`"""
    at_work = [
        f"{stage} of {place(seen.state, round)}, {how_far(live)}"
        for (round, stage), live in seen.live.items()
    ]
    if at_work:
        return f"Stops: {'; '.join(at_work)}."
    if seen.state.status in ("paused", "failed"):
        return f"Nothing runs: the run is {seen.state.status}. It could never go on again."
    return "No stage runs now. No other would start."


def stays(run_dir: RunDir, seen: Observation) -> str:
    """Says what is left of the run afterwards."""
    trained = [round for round in seen.state.rounds if round.checkpoint]
    if not trained:
        return "No round is finished, so there is no result. All files stay where they are."
    last = trained[-1]
    others = [str(number) for number, _ in seen.state.checkpoints if number != last.round]
    also = f"\nAlso the checkpoints of round {', '.join(others)}." if others else ""
    return (
        f"Stays: the checkpoint of round {last.round} as the result, {run_dir.final}"
        f"{also}\nAll files stay where they are."
    )


def how_far(live: LiveStage) -> str:
    """Returns `12 of 40 steps (30.0%), about 4m left`."""
    if not live.total:
        return live.phase
    left = f", about {rough_duration(live.eta_s)} left" if live.eta_s is not None else ""
    share = percent(live.done / live.total)
    return f"{count(live.done)} of {count(live.total)} {live.unit} ({share}){left}"


def abort_words(when: When, seen: Observation) -> str:
    state = seen.state
    match when:
        case "now":
            stage = running(seen)
            return f"at once: what {stage} did is lost" if stage else "abort it"
        case "stage":
            return f"when {running(seen)} is done"
        case "round":
            if state.closing is not None:
                return f"when the {FINAL} is scored"
            number = state.round_at_hand
            finished = sum(1 for round in state.rounds if round.finished_t is not None)
            then = (
                f"then {plural(finished + 1, 'round')} are done" if finished else "then it is done"
            )
            return f"at the end of round {number}: {then}"


def running(seen: Observation) -> str:
    """Returns `train of round 3`; "" where nothing runs."""
    return " and ".join(
        f"{stage} of {place(seen.state, round)}" for round, stage in seen.state.active
    )


def loses(lost: Lost) -> str:
    """Returns `completed, 8 rounds, 2 checkpoints of 3.1 GiB, the result; 4.2 GiB in all`."""
    state, disk = lost.state, lost.disk
    parts = ["unreadable"]
    if state is not None:
        parts = [state.status, plural(state.num_rounds, "round")]
        if state.checkpoints:
            of = f" of {size(disk.checkpoints)}" if disk.checkpoints else ""
            parts.append(f"{plural(len(state.checkpoints), 'checkpoint')}{of}")
    if lost.has_result:
        parts.append("the result")
    if lost.num_own_marks:
        parts.append(f"{plural(lost.num_own_marks, 'completion')} that you marked or noted")
    forks = ", ".join(lost.forks)
    began = f"; {forks} began from it, with a copy of its checkpoint" if forks else ""
    return f"{', '.join(parts)}; {size(disk.total)} in all{began}"

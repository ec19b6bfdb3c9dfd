"""Observes a run as a reader does: its folded state, its supervisor, how far its stages are.

What became of supervisor and programs is put into words here, for screens and verbs alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from halos_backend.events import ProcessIdentity, Stage, SupervisorStarted, WorkersChosen
from halos_backend.store.attempt_state import LiveStage, fold_attempt
from halos_backend.store.liveness import living_supervisor, stalled_for_s
from halos_backend.store.own_words import words_or_problem
from halos_backend.store.reader import attempt_journal
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.run_summary import RunSummary
from halos_backend.store.standard_error import reward_of
from halos_backend.store.state import AT_WORK, RunState, RunStatus

from halos_tui.tracking import eta
from halos_tui.tracking.eta import Forecast

SeenStatus = RunStatus | Literal["lost", "stalled"]


class Supervision(msgspec.Struct, frozen=True):
    """Says who supervises a run, and for how long that process has been silent, if for too long."""

    supervisor: ProcessIdentity | None
    stalled_s: float | None = None

    def status_of(self, state: RunState | RunSummary) -> SeenStatus:
        """Returns the journal's status, or what the journal cannot say.

        It cannot say that work goes on and nobody does it, or that the one who does is stalled.
        """
        if state.status not in AT_WORK:
            return state.status
        if self.supervisor is None:
            return "lost"
        return state.status if self.stalled_s is None else "stalled"


class Observation(msgspec.Struct, frozen=True):
    """This is one look at a run. `live` has the stages that run now, by (round, stage)."""

    state: RunState
    supervision: Supervision
    live: Mapping[tuple[int, Stage], LiveStage]

    @property
    def supervisor(self) -> ProcessIdentity | None:
        return self.supervision.supervisor

    @property
    def status(self) -> SeenStatus:
        return self.supervision.status_of(self.state)


def observe(run_dir: RunDir) -> Observation:
    """Looks at a run once. Raises CorruptFileError for a journal that cannot be read."""
    supervision = supervision_of(run_dir)  # read before the state, so that its last event is seen
    state = load_state(run_dir)
    live = {
        (round, stage): fold_attempt(
            attempt_journal(
                run_dir.attempt(round, stage, state.rounds[round - 1].stages[stage].attempt).events
            ).read()
        )
        for round, stage in state.active
    }
    return Observation(state, supervision, live)


def _final_score(state: RunState) -> dict[str, Any] | None:
    """Returns None until the result is scored, or has been tried to be."""
    closing = state.closing
    if closing is None or closing.finished_t is None:
        return None
    reward = reward_of(closing)
    return {
        "reward_mean": None if reward is None else reward.mean,
        "reward_stderr": None if reward is None else reward.stderr,
        "num_prompts": closing.num_prompts,
        "held_out": closing.closing == "held_out",
        "unscored": closing.unscored,
    }


def supervision_of(run_dir: RunDir) -> Supervision:
    """Says who supervises the run now."""
    supervisor = living_supervisor(run_dir)
    if supervisor is None:
        return Supervision(None)
    return Supervision(supervisor, stalled_for_s(run_dir, supervisor))


def as_json(seen: Observation, run_dir: RunDir, ahead: Forecast) -> dict[str, Any]:
    """Returns what `status --json` prints.

    This is the state, with the status as seen, what runs now, and how long that, its round and the
    run still take.
    """
    state: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(seen.state))
    return {
        **state,
        "status": seen.status,
        "path": str(run_dir.path),
        **msgspec.to_builtins(words_or_problem(run_dir)[0]),
        "num_rounds": seen.state.num_rounds,
        "final_score": _final_score(seen.state),
        "supervisor": msgspec.to_builtins(seen.supervisor),
        "round_eta": eta.as_json(ahead.round),
        "run_eta": eta.as_json(ahead.run),
        "live": [
            {
                "round": round,
                "stage": stage,
                "attempt": seen.state.rounds[round - 1].stages[stage].attempt,
                **msgspec.to_builtins(live),
                "rate": live.rate,
                "eta_s": live.eta_s,
                "eta": eta.as_json(ahead.stages.get((round, stage))),
            }
            for (round, stage), live in seen.live.items()
        ],
    }


def describe_workers(chosen: WorkersChosen) -> str:
    """Says what `launch.warm_workers = "auto"` came to."""
    if chosen.is_warm:
        return f"programs stay between rounds: {chosen.reason}"
    return f"each stage starts a program of its own: {chosen.reason}"


def describe_restart(event: SupervisorStarted) -> str:
    """Says what happened while nobody supervised; "" where nothing went wrong."""
    if not event.after_crash:
        return ""
    stages = [f"the {stage} stage went on" for stage in event.went_on]
    stages += [f"the {stage} stage ended meanwhile" for stage in event.gone]
    return "; ".join(["supervisor restarted after a crash", *(stages or ["no stage ran"])])

"""A run as a reader sees it: its folded state, its supervisor, how far its stages are."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from halos_backend import clock
from halos_backend.events import ProcessIdentity, Stage
from halos_backend.store.identity import is_alive, recorded_holder
from halos_backend.store.live import LiveStage, fold_attempt
from halos_backend.store.reader import attempt_journal
from halos_backend.store.registry import load_state
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, RunStatus

SILENCE_LIMIT_S = 90.0
"""On a network file system a supervisor of another host lives while its heartbeat is younger."""

SeenStatus = RunStatus | Literal["lost"]


class Observation(msgspec.Struct, frozen=True):
    """One look at a run. `live` has the stages that run now, by (round, stage)."""

    state: RunState
    supervisor: ProcessIdentity | None
    live: Mapping[tuple[int, Stage], LiveStage]

    @property
    def status(self) -> SeenStatus:
        return seen_status(self.state, self.supervisor)


def observe(run_dir: RunDir) -> Observation:
    """Look once. Raises CorruptFileError for a journal that cannot be read."""
    supervisor = living_supervisor(run_dir)  # before the state: what it wrote last is then seen
    state = load_state(run_dir)
    live = {
        (round, stage): fold_attempt(
            attempt_journal(
                run_dir.attempt(round, stage, state.rounds[round - 1].stages[stage].attempt).events
            ).read()
        )
        for round, stage in sorted(state.active)
    }
    return Observation(state, supervisor, live)


def living_supervisor(run_dir: RunDir) -> ProcessIdentity | None:
    """The supervisor that holds the run, here or on another host."""
    holder = recorded_holder(run_dir)
    if holder is None:
        return None
    if holder.host == socket.gethostname():
        return holder if is_alive(holder) else None
    with contextlib.suppress(OSError):
        if clock.now() - run_dir.heartbeat.stat().st_mtime < SILENCE_LIMIT_S:
            return holder
    return None


def seen_status(state: RunState, supervisor: ProcessIdentity | None) -> SeenStatus:
    """The journal's status, or `lost` where it says that work goes on and nobody does it."""
    if supervisor is None and state.status in ("running", "aborting"):
        return "lost"
    return state.status


def as_json(seen: Observation, run_dir: RunDir) -> dict[str, Any]:
    """What `status --json` prints: the state, with the status as seen and what runs now."""
    state: dict[str, Any] = msgspec.to_builtins(seen.state)
    return {
        **state,
        "status": seen.status,
        "path": str(run_dir.path),
        "supervisor": msgspec.to_builtins(seen.supervisor),
        "live": [
            {
                "round": round,
                "stage": stage,
                "attempt": seen.state.rounds[round - 1].stages[stage].attempt,
                **msgspec.to_builtins(live),
                "rate": live.rate,
                "eta_s": live.eta_s,
            }
            for (round, stage), live in seen.live.items()
        ],
    }

"""Asks several runs at once: observes them, plans a request for each, sends them, words answers.

It reads and writes files and waits for supervisors, so the app calls it in threads only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from halos_backend.errors import HalosError, RunInUseError
from halos_backend.events import (
    AbortRequested,
    PauseRequested,
    RunEvent,
    RunExtended,
    RunResumed,
    SettingsChanged,
)
from halos_backend.store.registry import load_state
from halos_backend.store.requests import Request
from halos_backend.store.run_dir import RunDir

from halos_tui.control import requests
from halos_tui.control.requests import At, When
from halos_tui.formatting import setting_changes
from halos_tui.tracking import rounds
from halos_tui.tracking.status import Observation

MOST_AT_ONCE = 8
Make = Callable[[RunDir, Observation], Request | None]


@dataclass(frozen=True)
class Look:
    """Says how a run stands, or why that cannot be seen."""

    run_dir: RunDir
    seen: Observation | None
    problem: str = ""


@dataclass(frozen=True)
class Step:
    """Says what to do to a run: a request, or without one to give it a supervisor; or why not."""

    run_dir: RunDir
    request: Request | None = None
    problem: str = ""
    was_lost: bool = False

    @property
    def is_possible(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Outcome:
    """Says in words what came of it."""

    run_dir: RunDir
    text: str
    is_done: bool


def look_closely(run_dir: RunDir) -> Observation:
    """Observes a run. Raises HalosError, also for a directory that is gone."""
    try:
        return requests.look(run_dir)
    except OSError as error:
        raise HalosError(f"{error.filename or run_dir.path}: {error.strerror}") from error


def look(run_dir: RunDir) -> Look:
    try:
        return Look(run_dir, look_closely(run_dir))
    except HalosError as error:
        return Look(run_dir, None, str(error))


def can_pause(look: Look) -> bool:
    """Says whether the run is at work and nobody has asked it to stop."""
    return look.seen is not None and look.seen.status in ("created", "running", "stalled")


def is_pausing(look: Look) -> bool:
    return look.seen is not None and look.seen.state.status == "pausing"


def pauses(looks: Sequence[Look], at: At = "round") -> list[Step]:
    return _steps(looks, lambda run_dir, seen: requests.pause_request(run_dir, seen, at))


def resumes(looks: Sequence[Look]) -> list[Step]:
    return _steps(looks, requests.resume_request)


def retries(looks: Sequence[Look]) -> list[Step]:
    return _steps(looks, requests.retry_request)


def extensions(looks: Sequence[Look], num_rounds: int) -> list[Step]:
    return _steps(looks, lambda run_dir, seen: requests.extend_request(run_dir, seen, num_rounds))


def aborts(looks: Sequence[Look], when: When) -> list[Step]:
    def make(run_dir: RunDir, seen: Observation) -> Request | None:
        request = requests.abort_request(run_dir, seen, when)
        if request is None and seen.status != "lost":
            raise HalosError(f"the run {run_dir.name} is aborting already")
        return request

    return _steps(looks, make)


def take(steps: Sequence[Step]) -> list[Outcome]:
    """Does all of them, side by side; one that fails is no reason to leave another."""
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        return list(pool.map(_take, steps))


def say(run_dir: RunDir, event: RunEvent) -> str:
    """Says what an answer means."""
    match event:
        case PauseRequested() | AbortRequested():
            state = load_state(run_dir)
            stopping = "pausing" if isinstance(event, PauseRequested) else "aborting"
            where = rounds.boundary(state)
            return f"{stopping} {where}" if where else _status_words(state.status)
        case RunResumed():
            return "goes on"
        case RunExtended(num_rounds=num_rounds):
            return f"goes on, to round {num_rounds}"
        case SettingsChanged(changes=changes, from_round=from_round):
            return f"from round {from_round}: {setting_changes(changes)}"
        case _:
            return "done"


def _steps(looks: Sequence[Look], make: Make) -> list[Step]:
    return [_step(look, make) for look in looks]


def _step(look: Look, make: Make) -> Step:
    if look.seen is None:
        return Step(look.run_dir, problem=look.problem)
    try:
        request = make(look.run_dir, look.seen)
    except HalosError as error:
        return Step(look.run_dir, problem=str(error))
    return Step(look.run_dir, request, was_lost=look.seen.status == "lost")


def _take(step: Step) -> Outcome:
    if not step.is_possible:
        return Outcome(step.run_dir, step.problem, is_done=False)
    try:
        text = _ask(step)
    except (HalosError, OSError) as error:
        return Outcome(step.run_dir, str(error), is_done=False)
    taken_up = "; its supervisor was gone, and a new one took it up" if step.was_lost else ""
    return Outcome(step.run_dir, text + taken_up, is_done=True)


def _ask(step: Step) -> str:
    if step.request is not None:
        return say(step.run_dir, requests.ask(step.run_dir, step.request))
    with contextlib.suppress(RunInUseError):  # somebody else was faster
        requests.take_up(step.run_dir)
    return "goes on"


def _status_words(status: str) -> str:
    return "aborting now" if status == "aborting" else status

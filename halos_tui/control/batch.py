"""Asks several runs at once: observes them, plans a request for each, sends them, words answers.

It reads and writes files and waits for supervisors, so the app calls it in threads only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from halos_backend.client.ask import check_writable
from halos_backend.errors import HalosError, RunInUseError
from halos_backend.events import (
    AbortRequested,
    PauseRequested,
    RunEvent,
    RunExtended,
    RunResumed,
    SettingsChanged,
)
from halos_backend.store.own_words import OwnWords, change_own_words
from halos_backend.store.registry import load_state
from halos_backend.store.request_rules import refusal
from halos_backend.store.requests import At, Pause, Request, When
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import AT_REST

from halos_tui.control import requests
from halos_tui.control.stopping import loses
from halos_tui.formatting import setting_changes, size
from halos_tui.tracking import rounds
from halos_tui.tracking.status import Observation

MOST_AT_ONCE = 8
Make = Callable[[RunDir, Observation], Request | None]


@dataclass(frozen=True)
class ObservedRun:
    """Says how a run stands, or why that cannot be seen."""

    run_dir: RunDir
    seen: Observation | None
    problem: str = ""


@dataclass(frozen=True)
class PlannedRequest:
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


def observe_closely(run_dir: RunDir) -> Observation:
    """Observes a run. Raises HalosError, also for a directory that is gone."""
    try:
        return requests.look(run_dir)
    except OSError as error:
        raise HalosError(f"{error.filename or run_dir.path}: {error.strerror}") from error


def observe_run(run_dir: RunDir) -> ObservedRun:
    try:
        return ObservedRun(run_dir, observe_closely(run_dir))
    except HalosError as error:
        return ObservedRun(run_dir, None, str(error))


def can_pause(run: ObservedRun) -> bool:
    """Says whether the run is at work, under a supervisor, and nobody has asked it to stop."""
    if run.seen is None or run.seen.status == "lost":
        return False
    return refusal(Pause(request_id=""), run.seen.state, run.run_dir) is None


def is_pausing(run: ObservedRun) -> bool:
    return run.seen is not None and run.seen.state.status == "pausing"


def pauses(observed: Sequence[ObservedRun], at: At = "round") -> list[PlannedRequest]:
    return _plan_all(observed, lambda run_dir, seen: requests.pause_request(run_dir, seen, at))


def resumes(observed: Sequence[ObservedRun]) -> list[PlannedRequest]:
    return _plan_all(observed, requests.resume_request)


def retries(observed: Sequence[ObservedRun]) -> list[PlannedRequest]:
    return _plan_all(observed, requests.retry_request)


def extensions(observed: Sequence[ObservedRun], num_rounds: int) -> list[PlannedRequest]:
    return _plan_all(
        observed, lambda run_dir, seen: requests.extend_request(run_dir, seen, num_rounds)
    )


def aborts(observed: Sequence[ObservedRun], when: When) -> list[PlannedRequest]:
    def make(run_dir: RunDir, seen: Observation) -> Request | None:
        request = requests.abort_request(run_dir, seen, when)
        if request is None and seen.status != "lost":
            raise HalosError(f"the run {run_dir.name} is aborting already")
        return request

    return _plan_all(observed, make)


def send(planned: Sequence[PlannedRequest]) -> list[Outcome]:
    """Does all of them, side by side; one that fails is no reason to leave another."""
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        return list(pool.map(_send, planned))


def write_words(
    runs: Sequence[RunDir], change: Callable[[OwnWords], OwnWords], *, replaces_damage: bool
) -> list[Outcome]:
    """Changes a person's own words about each run; one that fails is no reason to leave another."""
    return [_write_words(run_dir, change, replaces_damage) for run_dir in runs]


def _write_words(
    run_dir: RunDir, change: Callable[[OwnWords], OwnWords], replaces_damage: bool
) -> Outcome:
    try:
        change_own_words(run_dir, change, replaces_damage=replaces_damage)
    except HalosError as error:
        return Outcome(run_dir, str(error), is_done=False)
    return Outcome(run_dir, "written", is_done=True)


@dataclass(frozen=True)
class PlannedDeletion:
    """Says what is lost with a run, or why it stays."""

    run_dir: RunDir
    lost: str
    problem: str = ""


def plan_deletions(runs: Sequence[RunDir]) -> list[PlannedDeletion]:
    """Looks at runs that a person wants to delete: only those at rest can be."""
    from halos_backend.client.remove import what_is_lost  # pydantic: 0.1 s

    problems = {run_dir: _why_not_deleted(run_dir) for run_dir in runs}
    lost = {one.run_dir: loses(one) for one in what_is_lost(_possible(problems))}
    return [
        PlannedDeletion(run_dir, lost.get(run_dir, ""), problem)
        for run_dir, problem in problems.items()
    ]


def delete(runs: Sequence[RunDir]) -> list[Outcome]:
    """Deletes them one after the other: a disk is not faster when it is asked for all at once."""
    return [_delete(run_dir) for run_dir in runs]


def _possible(problems: Mapping[RunDir, str]) -> list[RunDir]:
    return [run_dir for run_dir, problem in problems.items() if not problem]


def _why_not_deleted(run_dir: RunDir) -> str:
    """Says why a run is not deleted; one that cannot be read may be, if nothing works on it."""
    from halos_backend.client.remove import check_unused  # pydantic: 0.1 s

    try:
        check_writable(run_dir)
        check_unused(run_dir)
    except HalosError as error:
        return str(error)
    seen = observe_run(run_dir).seen
    if seen is None or seen.state.status in (*AT_REST, "created"):
        return ""
    go_on, abort = command_for(run_dir, "resume"), command_for(run_dir, "abort")
    return f"its supervisor is gone in the middle of the work: {go_on}, or {abort}, comes first"


def _delete(run_dir: RunDir) -> Outcome:
    from halos_backend.client.remove import remove_run

    try:
        freed = remove_run(run_dir)
    except (HalosError, OSError) as error:
        return Outcome(run_dir, str(error), is_done=False)
    return Outcome(run_dir, f"deleted; {size(freed)} are free again", is_done=True)


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


def _plan_all(observed: Sequence[ObservedRun], make: Make) -> list[PlannedRequest]:
    return [_plan(run, make) for run in observed]


def _plan(run: ObservedRun, make: Make) -> PlannedRequest:
    if run.seen is None:
        return PlannedRequest(run.run_dir, problem=run.problem)
    try:
        request = make(run.run_dir, run.seen)
    except HalosError as error:
        return PlannedRequest(run.run_dir, problem=str(error))
    return PlannedRequest(run.run_dir, request, was_lost=run.seen.status == "lost")


def _send(plan: PlannedRequest) -> Outcome:
    if not plan.is_possible:
        return Outcome(plan.run_dir, plan.problem, is_done=False)
    try:
        text = _ask(plan)
    except (HalosError, OSError) as error:
        return Outcome(plan.run_dir, str(error), is_done=False)
    taken_up = "; its supervisor was gone, and a new one took it up" if plan.was_lost else ""
    return Outcome(plan.run_dir, text + taken_up, is_done=True)


def _ask(plan: PlannedRequest) -> str:
    if plan.request is not None:
        return say(plan.run_dir, requests.ask(plan.run_dir, plan.request))
    with contextlib.suppress(RunInUseError):  # somebody else was faster
        requests.take_up(plan.run_dir)
    return "goes on"


def _status_words(status: str) -> str:
    return "aborting now" if status == "aborting" else status

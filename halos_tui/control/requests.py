"""Knows what can be asked of a run as it stands, or why not; the verbs and the app share it.

It words requests and sends them. Nothing here prints, draws or waits for more than the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from halos_backend.client import start
from halos_backend.client.ask import ask as ask_supervisor
from halos_backend.client.ask import asker, check_writable
from halos_backend.errors import RunInUseError, UsageError
from halos_backend.events import RequestRejected, RunEvent
from halos_backend.store import requests
from halos_backend.store.liveness import describe_stall
from halos_backend.store.registry import check_readable
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import AT_WORK, ENDED, RunState

from halos_tui.commands import command_for
from halos_tui.tracking.status import Observation, observe

At = Literal["round", "stage"]
When = Literal["now", "stage", "round"]
SOONEST_FIRST: tuple[When, ...] = ("now", "stage", "round")


def look(run_dir: RunDir) -> Observation:
    """Observes a run. Raises HalosError for one that cannot be read or is of a later version."""
    seen = observe(run_dir)
    check_readable(seen.state, run_dir)
    return seen


def ask(run_dir: RunDir, request: requests.Request) -> RunEvent:
    """Returns the answer. Raises UsageError with the reason where the supervisor refuses."""
    event = ask_supervisor(run_dir, request)
    if isinstance(event, RequestRejected):
        raise UsageError(event.reason)
    return event


def take_up(run_dir: RunDir) -> None:
    """Starts a supervisor on a run that has none and then goes on by itself."""
    check_writable(run_dir)
    start.start_supervisor(run_dir)


def pause_request(run_dir: RunDir, seen: Observation, at: At = "round") -> requests.Pause:
    """Words a pause. Raises UsageError where nothing runs that could pause."""
    status = seen.state.status
    if status in ("paused", "failed", *ENDED):
        already = " already" if status == "paused" else ""
        raise UsageError(
            f"the run {run_dir.name} is {status}{already}; nothing runs that could pause"
        )
    return requests.Pause(request_id=requests.new_request_id(), by=asker(), at=at)


def resume_request(run_dir: RunDir, seen: Observation) -> requests.Resume | None:
    """Words a resume; None where the run only lacks a supervisor, which `take_up` starts.

    Raises UsageError for a run that has ended, RunInUseError for one that runs.
    """
    state, supervisor = seen.state, seen.supervisor
    if state.status in ENDED:
        more = f"{command_for(run_dir, 'extend', '--rounds', 'N')} adds rounds; a"
        raise UsageError(
            f"the run {run_dir.name} is {state.status} ({state.reason}); there is nothing"
            f" to go on with. {more if state.status == 'completed' else 'A'} new run:"
            f" halos-tui run {run_dir.config}"
        )
    if state.status in ("paused", "failed", "pausing"):
        return requests.Resume(request_id=requests.new_request_id(), by=asker())
    if supervisor is None:
        return None
    if seen.supervision.stalled_s is not None:
        raise RunInUseError(describe_stall(run_dir, supervisor, seen.supervision.stalled_s))
    raise RunInUseError(
        f"the run {run_dir.name} is {state.status}, under process {supervisor.pid} on"
        f" {supervisor.host}; to look at it: {command_for(run_dir, 'watch')}"
    )


def abort_request(run_dir: RunDir, seen: Observation, when: When) -> requests.Abort | None:
    """Words an abort; None where that, or something sooner, is asked for already.

    Raises UsageError for a run that has ended.
    """
    state = seen.state
    if state.status in ENDED:
        raise UsageError(f"the run {run_dir.name} is {state.status} already")
    due = state.abort_when
    is_due = state.status == "aborting" and due is not None
    if is_due and due is not None and SOONEST_FIRST.index(due) <= SOONEST_FIRST.index(when):
        return None
    return requests.Abort(request_id=requests.new_request_id(), by=asker(), when=when)


def retry_request(run_dir: RunDir, seen: Observation) -> requests.Retry:
    """Words a retry. Raises UsageError where no stage has failed, and the result is not without a
    score.
    """
    state = seen.state
    has_failed = state.status in AT_WORK and state.failure is not None
    is_unscored = state.status == "completed" and state.closing and state.closing.unscored
    if state.status != "failed" and not has_failed and not is_unscored:
        raise UsageError(f"the run {run_dir.name} is {seen.status}: no stage of it has failed")
    return requests.Retry(request_id=requests.new_request_id(), by=asker())


def extend_request(
    run_dir: RunDir, seen: Observation, num_rounds: int, overrides: Sequence[str] = ()
) -> requests.Extend:
    """Words an extension. Raises UsageError for a run that is not completed, SettingsError for
    overrides.
    """
    state = seen.state
    if state.status != "completed":
        more = f"{command_for(run_dir, 'set', 'loop.num_rounds=N')} changes where it ends"
        hint = "" if state.status == "aborted" else f", not completed; {more}"
        raise UsageError(f"the run {run_dir.name} is {seen.status}{hint}")
    settings = state.settings_of(state.num_rounds + 1)
    return requests.Extend(
        request_id=requests.new_request_id(),
        by=asker(),
        num_rounds=num_rounds,
        assignments=with_absolute_paths(settings, overrides) if overrides else (),
    )


def set_request(
    run_dir: RunDir, seen: Observation, assignments: Sequence[str], from_round: int | None = None
) -> requests.Set:
    """Words a change of settings.

    Raises UsageError for a run that has ended or a round that is past, SettingsError for what the
    supervisor would refuse anyway.
    """
    settings = settings_to_change(run_dir, seen.state, from_round)
    return requests.Set(
        request_id=requests.new_request_id(),
        by=asker(),
        assignments=with_absolute_paths(settings, assignments),
        from_round=from_round,
    )


def defaults_taken_by(
    run_dir: RunDir, seen: Observation, assignments: Sequence[str], from_round: int | None = None
) -> list[str]:
    """Says what assignments that ask for a default come to. Raises as `set_request` does."""
    from halos_backend.config.changes import change_settings  # pydantic: 0.1 s
    from halos_backend.config.load import defaults_taken

    settings = settings_to_change(run_dir, seen.state, from_round)
    change = change_settings(settings, assignments, directory=Path.cwd())
    return defaults_taken(assignments, change.settings)


def settings_to_change(
    run_dir: RunDir, state: RunState, from_round: int | None
) -> dict[str, object]:
    """Returns the settings of the round that a change is for, by default the first possible one.

    Raises UsageError for a run that has ended, or a round that is past.
    """
    if state.status in ENDED:
        hint = f"; {command_for(run_dir, 'extend', '--rounds', 'N')} adds rounds"
        raise UsageError(
            f"the run {run_dir.name} is {state.status}{hint if state.status == 'completed' else ''}"
        )
    if from_round is None:
        failed = state.status == "failed"
        from_round = state.round_at_hand if failed else state.num_rounds + 1
    if from_round < state.round_at_hand:
        raise UsageError(f"round {from_round} is past; the next is {state.num_rounds + 1}")
    return state.settings_of(from_round)


def with_absolute_paths(settings: dict[str, object], assignments: Sequence[str]) -> tuple[str, ...]:
    """Returns `KEY=VALUE` as a supervisor, whose working directory is another, can read them.

    Raises SettingsError for what it would refuse anyway.
    """
    from halos_backend.config.changes import change_settings  # pydantic: 0.1 s

    return change_settings(settings, assignments, directory=Path.cwd()).overrides

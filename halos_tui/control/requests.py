"""Words what a person asks of runs, and sends it; the verbs and the app share it.

`store.request_rules` decides what a run grants. Nothing here prints, draws or waits for more than
the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from halos_backend.client import start
from halos_backend.client.ask import ask as ask_supervisor
from halos_backend.client.ask import asker, check_writable
from halos_backend.errors import RunInUseError, SettingsError, UsageError
from halos_backend.events import RequestRejected, RunEvent
from halos_backend.settings_json import LastChange, changed_last, last_changes, leaves
from halos_backend.store import requests
from halos_backend.store.liveness import describe_stall
from halos_backend.store.registry import check_readable
from halos_backend.store.request_rules import refusal, round_to_change
from halos_backend.store.requests import At, When
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import RunState
from msgspec.structs import replace

from halos_tui.formatting import setting
from halos_tui.tracking.status import Observation, observe

R = TypeVar("R", bound=requests.Request)

BEFORE = "before"
"""Is the value that asks for the one before the setting's newest change."""


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
    """Words a pause. Raises UsageError where nothing runs that could, or it pauses already."""
    pause = requests.Pause(request_id=requests.new_request_id(), by=asker(), at=at)
    return _granted(pause, run_dir, seen)


def resume_request(run_dir: RunDir, seen: Observation) -> requests.Resume | None:
    """Words a resume; None where the run only lacks a supervisor, which `take_up` starts.

    Raises UsageError for a run that has ended, RunInUseError for one that runs.
    """
    status, supervisor = seen.state.status, seen.supervisor
    if status not in ("created", "running", "aborting"):
        resume = requests.Resume(request_id=requests.new_request_id(), by=asker())
        return _granted(resume, run_dir, seen)
    if supervisor is None:
        return None
    if seen.supervision.stalled_s is not None:
        raise RunInUseError(describe_stall(run_dir, supervisor, seen.supervision.stalled_s))
    raise RunInUseError(
        f"the run {run_dir.name} is {status}, under process {supervisor.pid} on"
        f" {supervisor.host}; to look at it: {command_for(run_dir, 'watch')}"
    )


def abort_request(run_dir: RunDir, seen: Observation, when: When) -> requests.Abort | None:
    """Words an abort; None where that, or something sooner, is asked for already.

    Raises UsageError for a run that has ended.
    """
    abort = requests.Abort(request_id=requests.new_request_id(), by=asker(), when=when)
    if seen.state.status == "aborting" and refusal(abort, seen.state, run_dir):
        return None
    return _granted(abort, run_dir, seen)


def retry_request(run_dir: RunDir, seen: Observation) -> requests.Retry:
    """Words a retry. Raises UsageError where no failed stage waits, and the result is not without a
    score.
    """
    retry = requests.Retry(request_id=requests.new_request_id(), by=asker())
    return _granted(retry, run_dir, seen)


def extend_request(
    run_dir: RunDir, seen: Observation, num_rounds: int, overrides: Sequence[str] = ()
) -> requests.Extend:
    """Words an extension. Raises UsageError for a run that is not completed, SettingsError for
    overrides.
    """
    extend = requests.Extend(
        request_id=requests.new_request_id(), by=asker(), num_rounds=num_rounds
    )
    _granted(extend, run_dir, seen)
    settings = seen.state.settings_of(seen.state.num_rounds + 1)
    assignments = with_absolute_paths(settings, overrides) if overrides else ()
    return replace(extend, assignments=assignments)


def set_request(
    run_dir: RunDir, seen: Observation, assignments: Sequence[str], from_round: int | None = None
) -> requests.Set:
    """Words a change of settings.

    Raises UsageError for a run that has ended or a round that is past or under way, SettingsError
    for what the supervisor would refuse anyway.
    """
    change = requests.Set(
        request_id=requests.new_request_id(),
        by=asker(),
        assignments=tuple(assignments),
        from_round=from_round,
    )
    _granted(change, run_dir, seen)
    settings = seen.state.settings_of(round_to_change(seen.state, from_round))
    return replace(change, assignments=with_absolute_paths(settings, assignments))


def defaults_taken_by(state: RunState, change: requests.Set, asked: Sequence[str]) -> list[str]:
    """Says what those of the assignments `asked` for come to that ask for a default.

    Raises SettingsError for wrong ones.
    """
    from halos_backend.config.changes import change_settings  # pydantic: 0.1 s
    from halos_backend.config.load import defaults_taken

    settings = state.settings_of(round_to_change(state, change.from_round))
    changed = change_settings(settings, change.assignments, directory=Path.cwd())
    return defaults_taken(asked, changed.settings)


@dataclass(frozen=True)
class TakenBack:
    """Holds assignments of values before a change, the round they are for, and what is said of
    them.
    """

    assignments: tuple[str, ...]
    from_round: int | None
    said: tuple[str, ...] = ()


def take_back(
    state: RunState, assignments: Sequence[str], from_round: int | None = None
) -> TakenBack:
    """Puts the value before the newest change of a setting in the place of `KEY=before`.

    A change that waits for a later round than the next is taken back from that round on. Raises
    SettingsError for a setting that nobody changed, UsageError where several rounds are meant.
    """
    asked = [_key_taken_back(text) for text in assignments]
    if not any(asked):
        return TakenBack(tuple(assignments), from_round)
    due = [c for c in state.changes if from_round is None or c.from_round <= from_round]
    last = last_changes(state.settings, due)
    found = {key: changed_last(key, last) for key in asked if key}
    if unchanged := [key for key, changed in found.items() if not changed]:
        reason = "has not been changed, so there is no value before"
        raise SettingsError("nothing was changed", [(key, reason) for key in unchanged])
    taken = {path: change for changed in found.values() for path, change in changed.items()}
    given = [text for text, key in zip(assignments, asked, strict=True) if not key]
    return TakenBack(
        (*given, *_values_before(taken)),
        from_round or _round_of(state, taken, has_others=bool(given)),
        tuple(
            f"{path} is {setting(change.before)}, as before round {change.from_round}"
            for path, change in taken.items()
        ),
    )


def _key_taken_back(assignment: str) -> str:
    key, _, value = assignment.partition("=")
    return key.strip() if value.strip() == BEFORE else ""


def _values_before(taken: Mapping[str, LastChange]) -> Iterator[str]:
    from halos_backend.config.load import DEFAULT  # pydantic: 0.1 s
    from halos_backend.config.toml_text import format_value

    for path, change in taken.items():
        for key, value in leaves(path, change.before):
            yield f"{key}={DEFAULT if value is None else format_value(value)}"


def _round_of(state: RunState, taken: Mapping[str, LastChange], *, has_others: bool) -> int | None:
    """Returns the round that a change waits for which is taken back; None for the next."""
    coming = round_to_change(state, None)
    rounds = {max(coming, change.from_round) for change in taken.values()}
    if has_others:
        rounds.add(coming)
    if len(rounds) > 1:
        waits = max(rounds)
        path = next(path for path, change in taken.items() if change.from_round == waits)
        raise UsageError(
            f"the change of {path} waits for round {waits}, and the others are for round"
            f" {min(rounds)}",
            fix=f"take it back by itself: {path}={BEFORE}",
        )
    (round,) = rounds
    return None if round == coming else round


def _granted(request: R, run_dir: RunDir, seen: Observation) -> R:
    """Returns the request. Raises UsageError where the run as it stands refuses it."""
    refused = refusal(request, seen.state, run_dir, status=seen.status)
    if refused is not None:
        raise UsageError(refused.reason, fix=refused.fix)
    return request


def with_absolute_paths(settings: dict[str, object], assignments: Sequence[str]) -> tuple[str, ...]:
    """Returns `KEY=VALUE` as a supervisor, whose working directory is another, can read them.

    Raises SettingsError for what it would refuse anyway.
    """
    from halos_backend.config.changes import change_settings  # pydantic: 0.1 s

    return change_settings(settings, assignments, directory=Path.cwd()).overrides

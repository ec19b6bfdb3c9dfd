"""Answers each request once: with one event of the journal, or a rejection with the reason.

`store.request_rules` decides whether the run grants it, `config.changes` whether its settings can
be. `answer` is pure. `RequestAnswerer` records what it returns, and files the request away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from halos_backend import clock
from halos_backend.config.changes import Change, change_settings, refuse_for_begun_round
from halos_backend.config.conflicts import find_conflicts
from halos_backend.config.schema import RunSettings
from halos_backend.config.wording import Problem, find_problems
from halos_backend.errors import CorruptFileError, SettingsError, UsageError
from halos_backend.events import (
    AbortRequested,
    AnswerEvent,
    PauseRequested,
    RequestRejected,
    RunEvent,
    RunExtended,
    RunResumed,
    SettingsChanged,
)
from halos_backend.store import requests
from halos_backend.store.prompt_order import round_size
from halos_backend.store.request_rules import refusal, round_to_change
from halos_backend.store.requests import (
    Abort,
    Extend,
    Pause,
    Request,
    Resume,
    Retry,
    Set,
    Unreadable,
)
from halos_backend.store.run_dir import RunDir, command_for
from halos_backend.store.state import RunState, apply


def answer(request: Request | Unreadable, state: RunState, now: float, run_dir: RunDir) -> RunEvent:
    """Returns the event that answers the request; whoever asked finds it by its `request_id`."""
    if isinstance(request, Unreadable):
        return RequestRejected(t=now, request_id="", reason=request.reason)
    refused = refusal(request, state, run_dir)
    try:
        return _reject(request, str(refused), now) if refused else _accept(request, state, now)
    except UsageError as error:
        return _reject(request, str(error), now)


def _reject(request: Request, reason: str, now: float) -> RequestRejected:
    return RequestRejected(t=now, request_id=request.request_id, reason=reason)


def _accept(request: Request, state: RunState, now: float) -> RunEvent:
    match request:
        case Pause(request_id=request_id, at=at):
            return PauseRequested(t=now, request_id=request_id, at=at)
        case Resume(request_id=request_id) | Retry(request_id=request_id):
            return RunResumed(t=now, request_id=request_id)
        case Abort(request_id=request_id, when=when):
            when = "now" if state.status in ("paused", "failed") else when
            return AbortRequested(t=now, request_id=request_id, when=when)
        case Set():
            return _set(request, state, now)
        case Extend():
            return _extend(request, state, now)


def _set(request: Set, state: RunState, now: float) -> RunEvent:
    from_round = round_to_change(state, request.from_round)
    change = change_settings(state.settings_of(from_round), request.assignments, directory=None)
    if problems := _too_late(change, state, from_round):
        if request.from_round is not None:
            raise SettingsError(f"round {from_round} has begun", problems)
        from_round = state.num_rounds + 1
        change = change_settings(state.settings_of(from_round), request.assignments, directory=None)
    num_rounds = change.settings["loop"]["num_rounds"]
    if num_rounds is not None and num_rounds < state.num_rounds:
        least = f"round {state.num_rounds} has begun: write at least {state.num_rounds}"
        raise SettingsError("halos-tui set", [("loop.num_rounds", least)])
    event = SettingsChanged(
        t=now,
        request_id=request.request_id,
        from_round=from_round,
        changes=change.changes,
        consequences=list(change.consequences),
        by=request.by,
    )
    _check_later_rounds(apply(state, event), from_round)
    return event


def _too_late(change: Change, state: RunState, round: int) -> list[Problem]:
    """Returns what the round, if it has begun, has done already and cannot do otherwise."""
    if round > state.num_rounds:
        return []
    stages = state.rounds[round - 1].stages
    done = {name for name, stage in stages.items() if stage.status == "finished"}
    return refuse_for_begun_round(change.changes, done=done, round=round)


def _check_later_rounds(state: RunState, from_round: int) -> None:
    """Raises SettingsError where changes that wait for a later round do not go with this one."""
    for round in sorted({change.from_round for change in state.changes}):
        if round > from_round and (problems := _problems(state.settings_of(round))):
            raise SettingsError(f"with the changes that wait for round {round}", problems)


def _problems(settings: Mapping[str, Any]) -> list[Problem]:
    found = find_problems(RunSettings, settings)
    return found or find_conflicts(RunSettings.model_validate(settings))


def _extend(request: Extend, state: RunState, now: float) -> RunEvent:
    num_rounds = state.num_rounds + request.num_rounds
    before = state.settings_of(state.num_rounds + 1)
    assignments = list(request.assignments)
    if before["loop"]["num_rounds"] != num_rounds:
        assignments.append(f"loop.num_rounds={num_rounds}")
    budget = before["loop"]["num_prompts"]
    wanted = state.cursor + request.num_rounds * before["loop"]["prompts_per_round"]
    if budget is not None and budget < wanted:
        assignments.append(f"loop.num_prompts={wanted}")
    settings, changes = before, {}
    if assignments:
        change = change_settings(before, assignments, directory=None)
        settings, changes = change.settings, change.changes
    loop = settings["loop"]
    left = round_size(
        cursor=state.cursor,
        wanted=loop["prompts_per_round"],
        num_prompts=state.num_prompts,
        num_epochs=loop["num_epochs"],
        budget=loop["num_prompts"],
    )
    if left == 0:
        raise UsageError(
            f"all {state.num_prompts} prompts are used",
            fix=f"to go through them once more: --set loop.num_epochs={loop['num_epochs'] + 1}",
        )
    return RunExtended(
        t=now,
        request_id=request.request_id,
        num_rounds=num_rounds,
        changes=changes,
        by=request.by,
    )


def _answered(journal: Iterable[RunEvent]) -> set[str]:
    return {event.request_id for event in journal if isinstance(event, AnswerEvent)}


def check_answered(run_dir: RunDir, journal: Iterable[RunEvent]) -> None:
    """Raises CorruptFileError where a request was filed whose answer is not in the journal.

    An answer is on disk before its request is filed. A run that lost one would go on with other
    settings, or though its owner had ended it.
    """
    answered = _answered(journal)
    for path, request in requests.filed(run_dir):
        if isinstance(request, requests.Unreadable) or request.request_id in answered:
            continue
        raise CorruptFileError(
            f"{run_dir.events} has lost records: the answer to {path} is not there. Put the whole"
            f" file back; or move that request to {run_dir.control} to have it answered again,"
            f" or delete it, and then: {command_for(run_dir, 'resume')}"
        )


class RequestAnswerer:
    """Answers the requests of one run.

    `record` writes an answer down and makes it true. With a `refusal` the run cannot go on as
    things are, and whoever asks for that reads why. A request that the journal has answered already
    is filed, not applied again: an earlier supervisor died before it could.
    """

    def __init__(
        self, run_dir: RunDir, journal: Iterable[RunEvent], record: Callable[[RunEvent], None]
    ) -> None:
        self.refusal: str | None = None
        self._run_dir = run_dir
        self._record = record
        self._answered = _answered(journal)
        self._filed: set[str] = set()

    @property
    def has_requests(self) -> bool:
        return bool(requests.pending(self._run_dir))

    def answer_all(self, state: Callable[[], RunState]) -> None:
        """Answers what waits, oldest first; `state` gives the run's state as of now."""
        for path, request in requests.pending(self._run_dir):
            if path.name not in self._filed:
                self._filed.add(path.name)  # where `control/` cannot be written the file stays
                self._answer(request, state())
            requests.file_away(self._run_dir, path)

    def _answer(self, request: requests.Request | requests.Unreadable, state: RunState) -> None:
        if not isinstance(request, requests.Unreadable):
            if request.request_id in self._answered:
                return
            self._answered.add(request.request_id)
        if self.refusal and isinstance(request, Resume | Retry | Extend):
            self._record(_reject(request, self.refusal, clock.now()))
            return
        self._record(answer(request, state, clock.now(), self._run_dir))

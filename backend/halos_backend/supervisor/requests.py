"""Decides requests and answers each once: with one event of the journal, or a rejection with the
reason.

`answer` is pure. `RequestAnswerer` records what it returns, and files the request away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from halos_backend import clock
from halos_backend.config.changes import Change, change_settings, refuse_for_begun_round
from halos_backend.config.check import find_conflicts
from halos_backend.config.schema import RunSettings
from halos_backend.config.wording import Problem, find_problems
from halos_backend.errors import CorruptFileError, SettingsError, UsageError
from halos_backend.events import (
    AbortRequested,
    PauseRequested,
    RequestRejected,
    RunEvent,
    RunExtended,
    RunResumed,
    SettingsChanged,
)
from halos_backend.store import requests
from halos_backend.store.prompt_order import round_size
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
from halos_backend.store.state import ENDED, RunState, apply


class _RefusedError(UsageError):
    """Holds the reason why a request changes nothing."""


def answer(request: Request | Unreadable, state: RunState, now: float) -> RunEvent:
    """Returns the event that answers the request; whoever asked finds it by its `request_id`."""
    if isinstance(request, Unreadable):
        return RequestRejected(t=now, request_id="", reason=request.reason)
    try:
        return _accept(request, state, now)
    except UsageError as error:
        return RequestRejected(t=now, request_id=request.request_id, reason=str(error))


def _accept(request: Request, state: RunState, now: float) -> RunEvent:
    match request:
        case Pause():
            return _pause(request, state, now)
        case Resume():
            return _resume(request, state, now)
        case Retry():
            return _retry(request, state, now)
        case Set():
            return _set(request, state, now)
        case Extend():
            return _extend(request, state, now)
        case Abort():
            return _abort(request, state, now)


def _pause(request: Pause, state: RunState, now: float) -> RunEvent:
    sooner = state.pause_at == "round" and request.at == "stage"
    if state.status not in ("running", "pausing") or (state.status == "pausing" and not sooner):
        raise _RefusedError(f"the run is {state.status}{_already(state)}")
    return PauseRequested(t=now, request_id=request.request_id, at=request.at)


def _resume(request: Resume, state: RunState, now: float) -> RunEvent:
    if state.status not in ("paused", "pausing", "failed"):
        hint = "; halos-tui extend adds rounds" if state.status == "completed" else ""
        raise _RefusedError(f"the run is {state.status}{hint}")
    return RunResumed(t=now, request_id=request.request_id)


def _retry(request: Retry, state: RunState, now: float) -> RunEvent:
    waits = state.status == "running" and not state.active and state.failure is not None
    is_unscored = state.status == "completed" and state.closing and state.closing.unscored
    if state.status != "failed" and not waits and not is_unscored:
        raise _RefusedError(f"nothing has failed: the run is {state.status}")
    return RunResumed(t=now, request_id=request.request_id)


def _abort(request: Abort, state: RunState, now: float) -> RunEvent:
    order = ("now", "stage", "round")
    if state.status in ENDED:
        raise _RefusedError(f"the run is {state.status} already")
    if state.abort_when is not None and order.index(request.when) >= order.index(state.abort_when):
        raise _RefusedError("the run is aborting already")
    when = "now" if state.status in ("paused", "failed") else request.when
    return AbortRequested(t=now, request_id=request.request_id, when=when)


def _set(request: Set, state: RunState, now: float) -> RunEvent:
    if state.status in ENDED or state.status == "aborting":
        hint = "; halos-tui extend adds rounds" if state.status == "completed" else ""
        raise _RefusedError(f"the run is {state.status}{hint}")
    from_round = _round_of(request, state)
    change = change_settings(state.settings_of(from_round), request.assignments, directory=None)
    if problems := _too_late(change, state, from_round):
        raise SettingsError(f"round {from_round} has begun", problems)
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


def _round_of(request: Set, state: RunState) -> int:
    """Returns the round from which the change holds; of a failed run the one at hand, if it still
    can be.
    """
    next_round = state.num_rounds + 1
    if request.from_round is None:
        return _first_possible(request, state) if state.status == "failed" else next_round
    if request.from_round >= next_round:
        return request.from_round
    if request.from_round != state.round_at_hand:
        raise _RefusedError(f"round {request.from_round} is past; the next is {next_round}")
    if state.active:
        _, stage = state.active[0]
        raise _RefusedError(
            f"round {request.from_round} is under way ({stage} runs): pause at a stage boundary"
            f" first, or leave it to round {next_round}"
        )
    return request.from_round


def _first_possible(request: Set, state: RunState) -> int:
    at_hand = state.round_at_hand
    change = change_settings(state.settings_of(at_hand), request.assignments, directory=None)
    return state.num_rounds + 1 if _too_late(change, state, at_hand) else at_hand


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
    if state.status != "completed":
        hint = "; while it goes on: halos-tui set RUN loop.num_rounds=N"
        raise _RefusedError(f"the run is {state.status}{hint if state.status not in ENDED else ''}")
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
        raise _RefusedError(
            f"all {state.num_prompts} prompts are used; to go through them once more:"
            f" --set loop.num_epochs={loop['num_epochs'] + 1}"
        )
    return RunExtended(
        t=now,
        request_id=request.request_id,
        num_rounds=num_rounds,
        changes=changes,
        by=request.by,
    )


def _already(state: RunState) -> str:
    return " already" if state.status in ("paused", "pausing") else ""


def check_answered(run_dir: RunDir, journal: Iterable[RunEvent]) -> None:
    """Raises CorruptFileError where a request was filed whose answer is not in the journal.

    An answer is on disk before its request is filed. A run that lost one would go on with other
    settings, or though its owner had ended it.
    """
    answered = {getattr(event, "request_id", "") for event in journal}
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
        self._answered = {getattr(event, "request_id", "") for event in journal}
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
            rejected = RequestRejected(
                t=clock.now(), request_id=request.request_id, reason=self.refusal
            )
            self._record(rejected)
            return
        self._record(answer(request, state, clock.now()))

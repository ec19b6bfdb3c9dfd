"""Owns the history of a run's settings: what was changed, and what has become of each change. Pure.

The entries come from what the journal says of settings, guards and versions, one entry a setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from halos_backend.events import (
    GuardTripped,
    RequestRejected,
    RunEvent,
    RunExtended,
    SettingsChanged,
    VersionsChanged,
)
from halos_backend.settings_json import Changes, is_at_or_below
from halos_backend.store.requests import Extend, Request, Set
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.state import ENDED, RunState

from halos_tui.formatting import date_time, plural, setting_changes

Verb = Literal["set", "extend", "fork", "guard", "versions", "refused"]
Fate = Literal["holds", "replaced", "waits", "beyond", "unused", "refused", "told"]
"""This says what became of a change. `told` changes no setting; `beyond` waits for a round that is
not planned."""

Requests = Mapping[str, Request]
"""The known requests, by their id."""

DOES = {"pause": "pauses the run", "abort": "aborts the run"}
"""A guard that only warns changes nothing, and may do so every round: it is left out."""


@dataclass(frozen=True)
class Entry:
    """`path` is the setting, the guard or the package; `what` says what happened to it, with
    values.

    `by` is empty where nobody knows. `number` counts the entries of a run.
    """

    t: float
    verb: Verb
    by: str
    from_round: int
    path: str
    what: str
    why: str = ""
    consequences: tuple[str, ...] = ()
    fate: Fate = "holds"
    replaced_t: float | None = None
    number: int = 0

    @property
    def rounds(self) -> tuple[int, int]:
        """Returns the last round before the change, and the first one with it."""
        newer = max(1, self.from_round)
        return newer - 1, newer


def entries_of(event: RunEvent, state: RunState, requests: Requests) -> Iterator[Entry]:
    """Returns the entries that an event adds; most events add none. `state` is from before the
    event.
    """
    match event:
        case SettingsChanged():
            yield from _changed(event)
        case RunExtended():
            yield from _extended(event, state)
        case GuardTripped(action="pause" | "abort"):
            yield _tripped(event)
        case VersionsChanged():
            yield from _other_versions(event, state)
        case RequestRejected():
            yield from _refused(event, requests.get(event.request_id), state)


def entries_of_fork(t: float, origin: str, changes: Changes) -> Iterator[Entry]:
    """Describes a run that begins after a round of another, and how its settings differ from that
    one's.
    """
    for path, what in _each(changes) or [("", f"{origin}, with the same settings")]:
        yield Entry(t=t, verb="fork", by="", from_round=1, path=path, what=what, why=origin)


def _changed(event: SettingsChanged) -> Iterator[Entry]:
    for path, what in _each(event.changes):
        yield Entry(
            t=event.t,
            verb="set",
            by=event.by,
            from_round=event.from_round,
            path=path,
            what=what,
            consequences=tuple(event.consequences),
        )


def _extended(event: RunExtended, state: RunState) -> Iterator[Entry]:
    extended = f"extended to {plural(event.num_rounds, 'round')}"
    for path, what in _each(event.changes) or [("", extended)]:
        yield Entry(
            t=event.t,
            verb="extend",
            by=event.by,
            from_round=state.num_rounds + 1,
            path=path,
            what=what,
            why=extended if path else "",
        )


def _tripped(event: GuardTripped) -> Entry:
    return Entry(
        t=event.t,
        verb="guard",
        by=f"guard {event.guard}",
        from_round=event.round,
        path=f"guards.{event.guard}",
        what=f"{DOES[event.action]}: {event.reason}",
        why=f"looked at {event.stage} of round {event.round}" if event.stage else "",
        fate="told",
    )


def _other_versions(event: VersionsChanged, state: RunState) -> Iterator[Entry]:
    for package, what in _each(event.changes):
        yield Entry(
            t=event.t,
            verb="versions",
            by="supervisor",
            from_round=state.round_at_hand,
            path=package,
            what=what,
            why="the run goes on with other code than before",
            fate="told",
        )


def _refused(event: RequestRejected, request: Request | None, state: RunState) -> Iterator[Entry]:
    """Yields what a refused request would have changed; nothing where it would have changed no
    setting.
    """
    if not isinstance(request, Set | Extend | None):
        return
    from_round = request.from_round if isinstance(request, Set) else None
    for path, what in _asked(request):
        yield Entry(
            t=event.t,
            verb="refused",
            by="" if request is None else request.by,
            from_round=from_round or state.round_at_hand,
            path=path,
            what=what,
            why=event.reason,
            fate="refused",
        )


def _asked(request: Set | Extend | None) -> list[tuple[str, str]]:
    """Returns (path, what) of each setting that the request wanted to change."""
    if request is None:
        return [("", "a request")]
    asked = [(text.partition("=")[0].strip(), text) for text in request.assignments]
    if isinstance(request, Extend):
        return [("", plural(request.num_rounds, "more round")), *asked]
    return asked


def _each(changes: Mapping[str, tuple[object, object]]) -> list[tuple[str, str]]:
    return [(path, setting_changes({path: change})) for path, change in changes.items()]


class History:
    """Holds the entries of a run, and grows with the journal."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds entries in the order in which they came about."""
        for entry in entries:
            self._entries.append(replace(entry, number=len(self._entries)))

    def entries(self, state: RunState) -> tuple[Entry, ...]:
        """Returns the entries as things stand now, newest first."""
        later: dict[int, list[Entry]] = {}
        found = []
        for entry in reversed(self._entries):
            if entry.verb in ("set", "extend") and entry.path:
                of_round = later.setdefault(entry.from_round, [])
                found.append(_as_of_now(entry, of_round, state))
                of_round.append(entry)
            else:
                found.append(entry)
        return tuple(found)


def fate_of(entry: Entry) -> str:
    """Says what became of an entry; returns "" where there is nothing to add."""
    match entry.fate:
        case "replaced":
            return f"replaced by the change of {date_time(entry.replaced_t or 0.0)}"
        case "waits":
            return f"waits for round {entry.from_round}"
        case "beyond":
            return f"waits for round {entry.from_round}: the run is to end before that"
        case "unused":
            return f"never held: the run ended before round {entry.from_round}"
        case "refused":
            return "refused: nothing was changed"
        case "holds" | "told":
            return ""


def _as_of_now(entry: Entry, later: list[Entry], state: RunState) -> Entry:
    """Works out what became of an entry. `later` are changes from the same round on, the latest
    first.
    """
    over = [other for other in later if is_at_or_below(entry.path, other.path)]
    if over:
        return replace(entry, fate="replaced", replaced_t=over[-1].t)
    if entry.from_round <= state.num_rounds:
        return replace(entry, fate="holds")
    if state.status in ENDED:
        return replace(entry, fate="unused")
    planned = planned_rounds(state)
    is_beyond = planned is not None and entry.from_round > planned
    return replace(entry, fate="beyond" if is_beyond else "waits")

"""What the journal says of settings, guards and versions, one entry a setting. Pure.

What becomes of an entry later is `history`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from halos_backend.events import (
    GuardTripped,
    RequestRejected,
    RunEvent,
    RunExtended,
    SettingsChanged,
    VersionsChanged,
)
from halos_backend.settings_json import Changes
from halos_backend.store.state import RunState
from halos_backend.supervisor.control import Extend, Request, Set

from halos_tui.formatting import plural, setting_changes

Verb = Literal["set", "extend", "fork", "guard", "versions", "refused"]
Fate = Literal["holds", "replaced", "waits", "beyond", "unused", "refused", "told"]
"""What became of it. `told` is what changes no setting, `beyond` waits for a round that is not
planned."""

Requests = Mapping[str, Request]
"""Requests that are known, by their id."""

DOES = {"pause": "pauses the run", "abort": "aborts the run"}
"""A guard that only warns changes nothing, and may do so every round: it is left out."""


@dataclass(frozen=True)
class Entry:
    """`path` is the setting, the guard or the package; `what` is said of it, values included.

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
        """The round before, and the first one with it."""
        newer = max(1, self.from_round)
        return newer - 1, newer


def entries_of(event: RunEvent, state: RunState, requests: Requests) -> Iterator[Entry]:
    """`state` is that before the event. Most events are about something else."""
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
    """A run that begins after a round of another, and how its settings differ from that one's."""
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
    """None for a request that would have changed no setting."""
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
    """(path, what) of each setting that was to be another."""
    if request is None:
        return [("", "a request")]
    asked = [(text.partition("=")[0].strip(), text) for text in request.assignments]
    if isinstance(request, Extend):
        return [("", plural(request.num_rounds, "more round")), *asked]
    return asked


def _each(changes: Mapping[str, tuple[object, object]]) -> list[tuple[str, str]]:
    return [(path, setting_changes({path: change})) for path, change in changes.items()]

"""Collects what a person should know of a run besides its numbers: events in, sentences out. Pure.

It comes from the run's journal, its stages and its state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from halos_backend.events import (
    GuardTripped,
    RequestRejected,
    RunEvent,
    SupervisorStarted,
    VersionsChanged,
    WorkerReplaced,
    WorkersChosen,
)
from halos_backend.store.state import AT_WORK, RunState

from halos_tui.formatting import clock_time
from halos_tui.run.view import Notice, RoundRow
from halos_tui.tracking.status import SeenStatus, describe_restart, describe_workers

MOST_NOTICES = 50
NUM_ROUNDS_BACK = 5
"""Older rounds keep their notices until a person selects them."""


class JournalNotices:
    """Holds the last notices that the journal tells and a state does not."""

    def __init__(self) -> None:
        self.notices: deque[Notice] = deque(maxlen=MOST_NOTICES)

    def add(self, events: Iterable[RunEvent]) -> None:
        for event in events:
            if (notice := _told(event)) is not None:
                self.notices.append(notice)


def all_notices(
    state: RunState,
    *,
    journal: Iterable[Notice],
    rows: Sequence[RoundRow],
    selected: RoundRow | None,
    stages: Iterable[Notice],
    supervisor: Notice | None,
) -> tuple[Notice, ...]:
    """Returns what is in the way now, then notices of stages, rounds and journal, newest first.

    `rows` are all rounds; what the selected one has to say goes before the others.
    """
    found = [] if supervisor is None else [supervisor]
    if state.obstacle and state.status in AT_WORK:
        found.append(Notice("warning", state.obstacle))
    found += stages
    if selected is not None:
        found += selected.notices
    for row in reversed(rows[-NUM_ROUNDS_BACK:]):
        found += row.notices
    found += reversed([*journal])
    first_of_kind: dict[str, Notice] = {}
    for notice in found:
        first_of_kind.setdefault(notice.kind or notice.text, notice)
    return tuple(first_of_kind.values())[:MOST_NOTICES]


HINTS: dict[SeenStatus, str] = {
    "paused": "{pause} goes on",
    "failed": "{retry} tries again, {tweak} changes settings before that, {logs} shows the log",
    "lost": "its supervisor is gone: {pause} goes on with a new one",
    "completed": "{extend} adds rounds, {fork} forks",
    "aborted": "{fork} forks from a round of it",
}


def hint_for(status: SeenStatus, keys: Mapping[str, str]) -> str:
    """Says what to do about a status; `keys` are those of the actions, none in a read-only app."""
    if status == "created":
        return "its supervisor has not begun yet"
    return HINTS.get(status, "").format_map(keys) if keys else ""


def _told(event: RunEvent) -> Notice | None:
    match event:
        case GuardTripped(action="warn"):
            return Notice("warning", f"guard {event.guard}: {event.reason}")
        case GuardTripped():
            return Notice("bad", f"guard {event.guard}: {event.reason}; it {event.action}s the run")
        case SupervisorStarted(after_crash=True):
            return Notice("warning", f"{clock_time(event.t)} {describe_restart(event)}")
        case VersionsChanged(changes=changes):
            listed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items())
            return Notice("warning", f"the run goes on with other versions: {listed}")
        case WorkerReplaced(stage=stage, reason=reason):
            return Notice("warning", f"the {stage} stage is loaded anew: {reason}")
        case WorkersChosen(is_warm=False):
            return Notice("warning", describe_workers(event), kind="workers")
        case RequestRejected(reason=reason):
            return Notice("warning", f"a request was refused: {reason}")
        case _:
            return None

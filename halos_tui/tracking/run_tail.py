"""Follows one run: its journal, and the journals of the attempts that run, in one order."""

from __future__ import annotations

from halos_backend.events import (
    AttemptEvent,
    RunEvent,
    Stage,
    StageFailed,
    StageFinished,
    StageStarted,
)
from halos_backend.store.attempt_state import LiveStage, fold_attempt
from halos_backend.store.reader import JournalReader, attempt_journal, run_journal
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, apply

Key = tuple[int, Stage]


class RunTail:
    """Holds the run's state as of the last `read`, and what was new in it.

    Without `history` the first `read` returns nothing and reads no ended attempt: what follows is
    what happens from then on.
    """

    def __init__(self, run_dir: RunDir, *, history: bool = True) -> None:
        self.run_dir = run_dir
        self.state = RunState()
        self.live: dict[Key, LiveStage] = {}
        self._journal = run_journal(run_dir.events)
        self._attempts: dict[Key, JournalReader[AttemptEvent]] = {}
        self._wants_history = history

    def read(self) -> list[RunEvent | AttemptEvent]:
        """Returns new events; an attempt's come before the event that ends it. Raises
        CorruptFileError.
        """
        if not self._wants_history:
            self._wants_history = True
            self._catch_up()
            return []
        events: list[RunEvent | AttemptEvent] = []
        for event in self._journal.read():
            if isinstance(event, StageFinished | StageFailed):
                events += self._drain((event.round, event.stage))
            self.state = apply(self.state, event)
            if isinstance(event, StageStarted):
                self._open(event.round, event.stage, event.attempt)
            events.append(event)
        for key in list(self._attempts):
            events += self._read_attempt(key)
        return events

    def _catch_up(self) -> None:
        for event in self._journal.read():
            self.state = apply(self.state, event)
        for round, stage in self.state.active:
            self._open(round, stage, self.state.rounds[round - 1].stages[stage].attempt)
            self._read_attempt((round, stage))

    def _open(self, round: int, stage: Stage, attempt: int) -> None:
        path = self.run_dir.attempt(round, stage, attempt).events
        self._attempts[round, stage] = attempt_journal(path)
        self.live[round, stage] = LiveStage()

    def _read_attempt(self, key: Key) -> list[AttemptEvent]:
        events = self._attempts[key].read()
        if events:
            self.live[key] = fold_attempt(events, self.live[key])
        return events

    def _drain(self, key: Key) -> list[AttemptEvent]:
        """Reads the rest of an attempt that ended."""
        if key not in self._attempts:
            return []
        events = self._read_attempt(key)
        del self._attempts[key], self.live[key]
        return events

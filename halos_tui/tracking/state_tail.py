"""Follows a run's state from its snapshot on, so that a long run is there at once.

What is known of finished rounds goes to whoever follows; the state itself keeps only the newest
whole, so that it stays small however many rounds a run has.
"""

from __future__ import annotations

import contextlib
from typing import Any

from halos_backend.errors import CorruptFileError
from halos_backend.events import RunEvent
from halos_backend.store.reader import JournalReader, run_journal
from halos_backend.store.registry import check_readable, read_snapshot
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState, apply
from msgspec.structs import replace

NUM_WHOLE = 12
"""So many newest rounds keep their summaries; nothing else reads older ones."""
BLOCK_BYTES = 1 << 20
RECENT_BYTES = 1 << 20
"""So much of the journal before the snapshot is read again, for what a state does not say."""

MOST_RECENT = 2000
"""One `read` returns at most so many events: the last ones."""

NOTHING: dict[Any, Any] = {}
"""All rounds that are forgotten share it; it is never written to."""


class StateTail:
    """`state` is as of the last `read`."""

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.state = RunState()
        self._journal: JournalReader[RunEvent] | None = None

    def read(self) -> list[RunEvent]:
        """Returns new events; at first the last ones before them too, which the state has already.

        Raises CorruptFileError for a journal that cannot be read or is gone, UsageError for one of
        a later version.
        """
        check_is_there(self.run_dir)
        recent = self._begin() if self._journal is None else []
        assert self._journal is not None
        while events := self._journal.read():
            for event in events:
                self.state = apply(self.state, event)
            recent += events
            del recent[:-MOST_RECENT]
        check_readable(self.state, self.run_dir)
        return recent

    def forget_old_rounds(self) -> None:
        """Keeps of old rounds only that they were, once they are written down elsewhere."""
        old = self.state.rounds[:-NUM_WHOLE]
        if old and old[-1].stages:
            kept = (*map(_bare, old), *self.state.rounds[-NUM_WHOLE:])
            self.state = replace(self.state, rounds=kept)

    def _begin(self) -> list[RunEvent]:
        snapshot = read_snapshot(self.run_dir)
        offset = 0 if snapshot is None else snapshot.offset
        if snapshot is not None:
            self.state = _with_shared_settings(snapshot.state)
        self._journal = run_journal(self.run_dir.events, offset=offset, max_bytes=BLOCK_BYTES)
        return _events_before(self.run_dir, offset)


def check_is_there(run_dir: RunDir) -> None:
    """Raises CorruptFileError for a run that was deleted while a person watched it."""
    if not run_dir.events.is_file():
        raise CorruptFileError(
            f"{run_dir.path}: the run is no longer there, or its journal is not;"
            " escape goes back to the list of runs"
        )


def _bare(round: RoundState) -> RoundState:
    if not round.stages:
        return round
    return replace(round, stages=NOTHING, metrics=NOTHING)


def _with_shared_settings(state: RunState) -> RunState:
    """Lets rounds with equal settings share one object, as they do in a fold."""
    rounds: list[RoundState] = []
    known = state.settings
    for round in state.rounds:
        known = known if known == round.settings else round.settings
        rounds.append(replace(round, settings=known))
    return replace(state, rounds=tuple(rounds))


def _events_before(run_dir: RunDir, offset: int) -> list[RunEvent]:
    """Returns the events in the last bytes before `offset`.

    It returns none where one of them is corrupt, because the snapshot has taken it in.
    """
    start = max(0, offset - RECENT_BYTES)
    if start:
        with run_dir.events.open("rb") as file:
            file.seek(start)
            start += len(file.readline())
    if start >= offset:
        return []
    with contextlib.suppress(CorruptFileError):
        return run_journal(run_dir.events, offset=start, max_bytes=offset - start).read()
    return []

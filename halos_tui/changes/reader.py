"""Reads what changed in a run, in the feed's thread: files in, a frozen `ChangesView` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from halos_backend import clock
from halos_backend.errors import CorruptFileError, HalosError
from halos_backend.events import ForkOrigin, RequestRejected, RunCreated, RunEvent
from halos_backend.store import requests
from halos_backend.store.reader import run_journal
from halos_backend.store.registry import check_readable, load_state
from halos_backend.store.round_state import RoundState
from halos_backend.store.run_dir import AttemptDir, RunDir
from halos_backend.store.run_summary import planned_rounds
from halos_backend.store.standard_error import (
    Pulls,
    change_stderr,
    may_share_prompts,
    pulls_of,
    reward_of,
    rewards_in,
)
from halos_backend.store.state import RunState, apply

from halos_tui.changes.comparison import (
    START,
    Origin,
    changes_of_fork,
    compare,
    last_round,
    usual_rounds,
)
from halos_tui.changes.entries import Entry, History, entries_of, entries_of_fork
from halos_tui.changes.page import ChangesPage
from halos_tui.changes.view import NEWEST, ChangesQuery, ChangesView
from halos_tui.changes.wording import MINUTE_S
from halos_tui.tracking.state_tail import check_is_there
from halos_tui.tracking.status import supervision_of

BLOCK_BYTES = 1 << 20


class ChangesReader:
    """Reads the changes of one run. `ask` may be called from another thread than `read`. `in_keys`
    words the commands in the reason of a refusal.
    """

    in_keys: Callable[[str], str] = staticmethod(str)

    def __init__(self, run_dir: RunDir, query: ChangesQuery) -> None:
        self.run_dir = run_dir
        self._query = query
        self._journal = run_journal(run_dir.events, max_bytes=BLOCK_BYTES)
        self._state = RunState()
        self._history = History()
        self._origin: Origin | None = None
        self._requests: dict[str, requests.Request] = {}
        self._now = 0.0
        self._view: ChangesView | None = None

    def ask(self, query: ChangesQuery) -> None:
        """Sets what the next view is about."""
        self._query = query

    def read(self) -> ChangesView | None:
        """Returns the view, or None where it is the same as before.

        Raises HalosError where the run is gone, or where its journal cannot be read.
        """
        check_is_there(self.run_dir)
        query = self._query
        is_new = self._view is None or self._view.query != query
        while events := self._journal.read():
            is_new = True
            self._look_requests_up(events)
            for event in events:
                self._take(event)
        check_readable(self._state, self.run_dir)
        now = clock.now()
        if is_new or not self._now <= now < self._now + MINUTE_S:
            self._now = now
        view = self._make(query)
        if view == self._view:
            return None
        self._view = view
        return view

    def _take(self, event: RunEvent) -> None:
        before, self._state = self._state, apply(self._state, event)
        self._history.add(
            [
                replace(entry, why=self.in_keys(entry.why))
                for entry in entries_of(event, before, self._requests)
            ]
        )
        if isinstance(event, RunCreated) and event.forked_from is not None:
            self._origin = _origin_of(event.forked_from)
            changes = changes_of_fork(self._origin, self._state)
            self._history.add(entries_of_fork(event.t, self._origin.said, changes))

    def _look_requests_up(self, events: list[RunEvent]) -> None:
        """Finds the requests of which the journal says only that they were refused."""
        refused = {event.request_id for event in events if isinstance(event, RequestRejected)}
        if refused - {"", *self._requests}:
            for _, request in (*requests.pending(self.run_dir), *requests.filed(self.run_dir)):
                if not isinstance(request, requests.Unreadable):
                    self._requests[request.request_id] = request

    def _make(self, query: ChangesQuery) -> ChangesView:
        state = self._state
        everything = self._history.entries(state)
        term = query.term
        entries = tuple(e for e in everything if term is None or term.is_in(e.path))
        entry = _at_cursor(entries, query.number)
        rounds = query.rounds or usual_rounds(state, entry)
        found = None
        if rounds is not None:
            paired_stderr = self._paired_stderr(*rounds)
            found = compare(state, rounds, self._origin, paired_stderr=paired_stderr)
        about = entry if query.rounds is None else None
        page = ChangesPage(query.width, self._now, is_ascii=query.is_ascii)
        return ChangesView(
            query=query,
            status=supervision_of(self.run_dir).status_of(state),
            num_rounds=state.num_rounds,
            planned=planned_rounds(state),
            entries=entries,
            num_entries=len(everything),
            rounds=rounds,
            last=last_round(state),
            lines=page.lines(found, about),
            found=found,
            about=about,
            now=self._now,
        )

    def _paired_stderr(self, older: int, newer: int) -> float | None:
        """Returns the standard error of the reward's change.

        Returns None where no prompt is in both rounds, or where the rows are gone.
        """
        if older == START or newer > self._state.num_rounds:
            return None
        before, now = self._state.rounds[older - 1], self._state.rounds[newer - 1]
        if reward_of(before) is None or reward_of(now) is None:
            return None
        if not may_share_prompts(before, now, num_prompts=self._state.num_prompts):
            return None
        try:
            return change_stderr(self._pulls(before), self._pulls(now))
        except (CorruptFileError, OSError):
            return None

    def _pulls(self, round: RoundState) -> Pulls:
        return _pulls_in(self.run_dir.attempt(round.round, "label", round.stages["label"].attempt))


@lru_cache(4)
def _pulls_in(label: AttemptDir) -> Pulls:
    """Returns the pulls of an attempt that has finished, whose rows stay as they are."""
    return pulls_of(rewards_in(label.scores))


def _at_cursor(entries: tuple[Entry, ...], number: int) -> Entry | None:
    if number == NEWEST:
        return entries[0] if entries else None
    return next((entry for entry in entries if entry.number == number), None)


def _origin_of(forked_from: ForkOrigin) -> Origin:
    """Returns the round that a run was forked from, where that run can still be read."""
    said = f"forked from {forked_from.run} round {forked_from.round}"
    try:
        rounds = load_state(RunDir(Path(forked_from.path))).rounds
        return Origin(said, rounds[forked_from.round - 1] if rounds else None)
    except (HalosError, OSError, IndexError):
        return Origin(said, None)

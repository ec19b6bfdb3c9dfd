"""Lists the completions of a run as they come: grows the index, and selects and sorts in it.

`read` belongs into a feed's thread, and works a while at a time, so that what is there is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from time import monotonic

from halos_backend.errors import UsageError
from halos_backend.store.own_words import read_own_marks
from halos_backend.store.run_dir import RunDir

from halos_tui.completions.index import CompletionsIndex, IndexProgress
from halos_tui.completions.query import EVERYTHING, CompletionQuery, Selection
from halos_tui.completions.view import ALL_ROUNDS, NEWEST, ONLY_FILTERS, ListQuery, ListView
from halos_tui.tracking.state_tail import StateTail

WORK_S = 0.3
"""One `read` works for about this long."""
REST = 4.0
"""After a selection that took one second, growth waits for so many seconds."""


class CompletionsReader:
    """Reads completions for their screen. `ask` and `close` may be called from any thread."""

    def __init__(self, run_dir: RunDir, query: ListQuery) -> None:
        self.index = CompletionsIndex(run_dir)
        self._run_dir = run_dir
        self._marks_look: tuple[int, int, int] | None = None
        self._tail = StateTail(run_dir)
        self._is_closed = Event()
        self._is_new_wish = Event()
        self._query = query
        self._newest = NEWEST
        self._updates: Iterator[IndexProgress] | None = None
        self._selections: Iterator[Selection] | None = None
        self._selected: object = None
        self._begun_t = self._may_select_t = 0.0
        self._view = ListView()

    def ask(self, query: ListQuery) -> None:
        """Sets what to list from the next `read` on; one that is under way ends soon."""
        self._query = query
        self._is_new_wish.set()

    def close(self) -> None:
        self._is_closed.set()
        self._is_new_wish.set()

    def read(self) -> ListView | None:
        """Returns the list, or None where nothing is new.

        Raises what `StateTail.read` does, and UsageError for a pattern that takes too long.
        """
        self._is_new_wish.clear()
        self._tail.read()
        self._read_own_marks()
        view = self._view
        end_t = monotonic() + WORK_S
        view = self._grown(view, end_t)
        view = self._chosen(view)
        view = self._listed(view, end_t)
        if view == self._view:
            return None
        self._view = view
        return view

    def _grown(self, view: ListView, end_t: float) -> ListView:
        """Lets the index take in what is new, for a while."""
        if self._updates is None:
            self._updates = self.index.update(self._tail.state, self._is_closed)
        for progress in self._updates:
            view = replace(
                view, num_bytes_read=progress.num_bytes_read, num_bytes=progress.num_bytes
            )
            if not self._view.num_completions or monotonic() > end_t or self._is_new_wish.is_set():
                break
        else:
            self._updates = None
            view = replace(view, num_bytes_read=0, num_bytes=0)
        return replace(
            view,
            rounds=tuple(self.index.rounds),
            num_rounds=self._tail.state.num_rounds,
            num_completions=self.index.num_completions,
            problems=tuple(filter(None, (*self.index.problems, self.index.own_marks.problem))),
            own_marks=self.index.own_marks,
        )

    def _read_own_marks(self) -> None:
        """Reads a person's own marks again where their file is another one."""
        try:
            found = self._run_dir.own_marks.lstat()
            look = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            look = None
        if look != self._marks_look:
            self._marks_look = look
            self.index.own_marks = read_own_marks(self._run_dir)

    def _chosen(self, view: ListView) -> ListView:
        query = self._query
        if self._newest == NEWEST and view.rounds:
            self._newest = view.rounds[-1]
        return replace(view, query=query, round=query.listed_round(self._newest))

    def _listed(self, view: ListView, end_t: float) -> ListView:
        """Goes on with the selection, or begins it anew where something is different."""
        is_own = view.query.filter is not None and view.query.filter.is_about_own_marks
        own_marks = self.index.own_marks if is_own else None
        about = (view.query, view.round, own_marks, self.index.generation, self._size(view))
        if about != self._selected and self._may_begin(about):
            self._selected = about
            self._begun_t = monotonic()
            self._selections = self.index.select(_query(view), self._is_new_wish)
            view = replace(view, generation=self.index.generation, num_searched=0, num_groups=1)
        if self._selections is None:
            return view
        return self._advanced(view, end_t)

    def _advanced(self, view: ListView, end_t: float) -> ListView:
        assert self._selections is not None
        try:
            for found in self._selections:
                view = replace(
                    view,
                    keys=found.keys,
                    num_fitting=found.num_fitting,
                    num_searched=found.num_searched,
                    num_groups=found.num_groups,
                )
                if monotonic() > end_t or self._is_new_wish.is_set():
                    return view
        except UsageError:
            self._selections = None
            raise
        self._selections = None
        if self._is_new_wish.is_set():
            self._selected = None
            return view
        now = monotonic()
        self._may_select_t = now + REST * (now - self._begun_t)
        return view

    def _may_begin(self, about: tuple[object, ...]) -> bool:
        """Says whether to begin now: at once for another question, for growth after the last
        selection.
        """
        if not isinstance(self._selected, tuple) or self._selected[:3] != about[:3]:
            return True
        return self._selections is None and monotonic() >= self._may_select_t

    def _size(self, view: ListView) -> int:
        """Counts the completions in the rounds that are listed."""
        if view.round == ALL_ROUNDS:
            return view.num_completions
        return self.index.num_in(view.round)


def _query(view: ListView) -> CompletionQuery:
    query = view.query
    return CompletionQuery(
        rounds=None if view.round == ALL_ROUNDS else frozenset({view.round}),
        filter=(query.filter or EVERYTHING) & ONLY_FILTERS[query.only],
        order=query.order,
        ascending=query.ascending,
        is_folded=True,
    )

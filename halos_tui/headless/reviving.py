"""Gives a run that its owner follows a new supervisor when it lost the old one; not for ever."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from halos_backend.errors import RunInUseError
from halos_backend.events import (
    AttemptEvent,
    MetricsLogged,
    Progressed,
    RoundFinished,
    RoundStarted,
    RunEvent,
    StageFinished,
)
from halos_backend.store.run_dir import RunDir
from halos_backend.supervisor import spawn

MOST_REVIVALS = 5
"""Without progress in between; more would be a loop."""
PROGRESS = (RoundStarted, Progressed, MetricsLogged, StageFinished, RoundFinished)


class Reviver:
    """Starts supervisors, and counts those since the run last got further."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self.num_revivals = 0

    def see(self, events: Iterable[RunEvent | AttemptEvent]) -> None:
        """What happened meanwhile."""
        if any(isinstance(event, PROGRESS) for event in events):
            self.num_revivals = 0

    @property
    def has_given_up(self) -> bool:
        return self.num_revivals >= MOST_REVIVALS

    def revive(self) -> None:
        """Start a supervisor. Raises HalosError, with its log, when it does not start."""
        self.num_revivals += 1
        with contextlib.suppress(RunInUseError):  # somebody else was faster
            spawn.start_supervisor(self._run_dir)

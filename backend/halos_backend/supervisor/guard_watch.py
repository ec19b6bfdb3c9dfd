"""Has the guards look at the right moments, and writes down those that trip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from halos_backend import clock
from halos_backend.config.schema import RunSettings
from halos_backend.events import (
    GuardTripped,
    RunEvent,
    StageFailed,
    StageFinished,
    SupervisorStarted,
)
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState
from halos_backend.supervisor.disk_room import measure_disk
from halos_backend.supervisor.guards import check_disk, check_stage


class GuardWatch:
    """The guards of one run; every trip goes through `record`."""

    def __init__(self, run_dir: RunDir, record: Callable[[RunEvent], None]) -> None:
        self._run_dir = run_dir
        self._record = record

    def before_round(self, state: RunState, settings: RunSettings) -> None:
        """Raises OSError for a disk that does not answer."""
        room = measure_disk(self._run_dir, state)
        for trip in check_disk(state, settings, room, now=clock.now()):
            self._record(trip)

    def after_stage(
        self,
        ended: StageFinished | StageFailed,
        state: RunState,
        settings: RunSettings,
        *,
        known: Collection[str] = (),
    ) -> None:
        """The guards that are `known` to have tripped already are left out.

        When the result is scored there is nothing left to stop.
        """
        if state.rounds[ended.round - 1].closing is not None:
            return
        for trip in check_stage(state, ended.round, ended.stage, settings, now=clock.now()):
            if trip.guard not in known:
                self._record(trip)

    def look_again(
        self, journal: Sequence[RunEvent], state: RunState, settings: RunSettings
    ) -> None:
        """An earlier supervisor may have died between a stage's end and the guards it trips."""
        known: set[str] = set()
        for event in reversed(journal):
            match event:
                case GuardTripped(guard=guard):
                    known.add(guard)
                case SupervisorStarted():
                    pass
                case StageFinished() | StageFailed():
                    self.after_stage(event, state, settings, known=known)
                    return
                case _:
                    return

"""Owns what a supervisor writes for its readers' sake: the heartbeat, and the snapshot of the fold.

Neither is needed to recover a run, so both may be late, and a disk that refuses them is no failure.
"""

from __future__ import annotations

import contextlib

from halos_backend import atomic, clock
from halos_backend.store.registry import write_snapshot
from halos_backend.store.run_dir import RunDir
from halos_backend.store.state import RunState

HEARTBEAT_S = 1.0
SNAPSHOT_SHARE = 0.02
"""Of the supervisor's time that goes into snapshots at most: a long run's takes tens of ms."""


class Pulse:
    """Says that the supervisor lives, and how far the run is."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._beats = 0
        self._next_beat = float("-inf")
        self._next_snapshot = float("-inf")
        self._snapshot_offset = -1

    def beat(self, state: RunState, *, offset: int) -> None:
        """Once a second at most. `state` is the fold of the journal's first `offset` bytes."""
        if clock.monotonic() >= self._next_snapshot:
            self.snapshot(state, offset=offset)
        if clock.monotonic() < self._next_beat:
            return
        self._next_beat = clock.monotonic() + HEARTBEAT_S
        self._beats += 1
        with contextlib.suppress(OSError):
            atomic.write_bytes(self._run_dir.heartbeat, f"{self._beats}\n".encode(), durable=False)

    def snapshot(self, state: RunState, *, offset: int) -> None:
        """Now, unless nothing is new. Readers fold what a late snapshot lacks."""
        if offset == self._snapshot_offset:
            return
        begun = clock.monotonic()
        with contextlib.suppress(OSError):
            write_snapshot(self._run_dir, state, offset=offset)
            self._snapshot_offset = offset
        ended = clock.monotonic()
        self._next_snapshot = ended + max(HEARTBEAT_S, (ended - begun) / SNAPSHOT_SHARE)

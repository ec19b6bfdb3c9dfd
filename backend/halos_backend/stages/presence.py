"""Notices that no supervisor is there any more, for what would wait for ever without one."""

from __future__ import annotations

from halos_backend import clock
from halos_backend.store.run_dir import RunDir

LOOK_S = 1.0
TIMEOUT_S = 60.0
"""Is how long a heartbeat may stay the same; then the supervisor is gone and was not replaced."""


class Presence:
    """Says whether a supervisor is there, by its heartbeat and this process's own clock."""

    def __init__(self, run_dir: RunDir) -> None:
        self._heartbeat = run_dir.heartbeat
        self._seen: bytes | None = None
        self._since = self._looked = clock.monotonic()

    def is_gone(self) -> bool:
        now = clock.monotonic()
        if now - self._looked < LOOK_S:
            return False
        if now - self._looked > TIMEOUT_S / 2:
            self._since = now  # we were at work, or stopped, and could not look
        self._looked = now
        try:
            beat = self._heartbeat.read_bytes()
        except OSError:
            beat = b""
        if beat != self._seen:
            self._seen, self._since = beat, now
        return now - self._since > TIMEOUT_S
